//! What observer expects of a kernel, held against the kernel that it runs on: by a reader of BTF that is not the
//! product's, and by telling the product something else and seeing it refuse.

mod kept;
mod moved;
