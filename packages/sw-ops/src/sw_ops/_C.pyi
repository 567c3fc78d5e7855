from types import ModuleType

compiler: str
cuda_compiler: str
cuda_architectures: str
cpu: ModuleType
cuda: ModuleType  # only where it was built with a CUDA compiler
