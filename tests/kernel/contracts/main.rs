//! Compares what observer expects of a kernel with the kernel that it runs on: a BTF reader independent of
//! the product checks the lists, and the product must refuse type information that was made wrong.

mod kept;
mod moved;
