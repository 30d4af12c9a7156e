//! Compares types in BTF with the types that the programs expect, and describes both as C does.

use observer_common::offsets::CType;

use super::btf::{
    Btf, BtfType, DEPTH_MAX, KIND_ARRAY, KIND_ENUM, KIND_ENUM64, KIND_FUNC_PROTO, KIND_FWD, KIND_INT,
    KIND_PTR, KIND_STRUCT, KIND_UNION,
};

impl Btf {
    /// Whether a type is `ctype`.
    pub fn is(&self, type_id: u32, ctype: CType) -> bool {
        // What does not resolve is `void`, which no program reads.
        self.resolve(type_id).is_some_and(|ty| match ctype {
            CType::Int(bytes) => self.integer_bytes(ty, 0) == Some(bytes),
            CType::Ptr(name) => ty.kind == KIND_PTR && self.points_at(ty, name),
            CType::Struct(name) => self.is_struct(ty, name),
            CType::Text(bytes) => self.text_bytes(ty) == Some(bytes),
            CType::TextFrom(bytes) => self.text_bytes(ty).is_some_and(|found| found >= bytes),
            CType::PtrsFrom(count, name) => self.array(ty).is_some_and(|(element, found)| {
                found >= count && element.kind == KIND_PTR && self.points_at(element, name)
            }),
            CType::Structs(name) => self.array(ty).is_some_and(|(element, _)| self.is_struct(element, name)),
        })
    }

    /// Describes a type as C does, for messages.
    pub fn describe(&self, type_id: u32) -> String {
        self.describe_to(type_id, 0)
    }

    fn describe_to(&self, type_id: u32, depth: usize) -> String {
        let Some(ty) = self.resolve(type_id) else { return "void".into() };
        if depth > DEPTH_MAX {
            return "…".into();
        }
        let name = match self.name_of(ty) {
            b"" => "(no name)".into(),
            name => String::from_utf8_lossy(name),
        };
        match ty.kind {
            KIND_INT => name.into_owned(),
            KIND_PTR => format!("{} *", self.describe_to(ty.size_or_type, depth + 1)),
            KIND_ARRAY => {
                let element = self.word(ty, 12).unwrap_or(0);
                let count = self.word(ty, 20).unwrap_or(0);
                format!("{}[{count}]", self.describe_to(element, depth + 1))
            }
            KIND_STRUCT => format!("struct {name}"),
            KIND_UNION => format!("union {name}"),
            KIND_ENUM | KIND_ENUM64 => format!("enum {name}"),
            KIND_FUNC_PROTO => "a function".into(),
            kind => format!("a type of kind {kind}"),
        }
    }

    fn integer_bytes(&self, ty: BtfType, depth: usize) -> Option<u32> {
        match ty.kind {
            KIND_INT | KIND_ENUM | KIND_ENUM64 => Some(ty.size_or_type),
            // A struct that wraps one integer, as `kuid_t` does.
            KIND_STRUCT if ty.vlen == 1 && depth <= DEPTH_MAX => {
                let inner = self.integer_bytes(self.resolve(self.word(ty, 16)?)?, depth + 1);
                inner.filter(|&bytes| bytes == ty.size_or_type)
            }
            _ => None,
        }
    }

    fn points_at(&self, pointer: BtfType, name: &str) -> bool {
        name.is_empty() || self.resolve(pointer.size_or_type).is_some_and(|ty| self.is_struct(ty, name))
    }

    /// A struct of this name, or its declaration.
    fn is_struct(&self, ty: BtfType, name: &str) -> bool {
        matches!(ty.kind, KIND_STRUCT | KIND_FWD) && self.name_of(ty) == name.as_bytes()
    }

    fn text_bytes(&self, ty: BtfType) -> Option<u32> {
        let (element, count) = self.array(ty)?;
        (element.kind == KIND_INT && element.size_or_type == 1).then_some(count)
    }

    fn array(&self, ty: BtfType) -> Option<(BtfType, u32)> {
        let element = self.resolve(self.word(ty, 12)?).filter(|_| ty.kind == KIND_ARRAY)?;
        Some((element, self.word(ty, 20)?))
    }
}

/// Describes an expected type as C does.
pub fn in_words(ctype: CType) -> String {
    match ctype {
        CType::Int(bytes) => format!("an integer of {bytes} bytes"),
        CType::Ptr("") => "a pointer".into(),
        CType::Ptr(name) => format!("struct {name} *"),
        CType::Struct(name) => format!("struct {name}"),
        CType::Text(bytes) => format!("char[{bytes}]"),
        CType::TextFrom(bytes) => format!("char[{bytes}] or more"),
        CType::PtrsFrom(count, name) => format!("struct {name} *[{count}] or more"),
        CType::Structs(name) => format!("struct {name}[]"),
    }
}
