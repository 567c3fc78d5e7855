"""The methods, a module each: what tells defective places from good ones."""
