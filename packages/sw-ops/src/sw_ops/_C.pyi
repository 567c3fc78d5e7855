from types import ModuleType

compiler: str
cuda_compiler: str
cuda_architectures: str
cuda_left_out: str  # why there is no CUDA
cpu: ModuleType
cuda: ModuleType  # only where it was built with a CUDA compiler
