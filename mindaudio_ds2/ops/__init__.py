"""Native CPU kernels in C++ (`csrc/`), and MindSpore Cells around them."""
