//! The types of values, made of those of handles.

use syn::visit_mut::{VisitMut, visit_type_mut};
use syn::{GenericArgument, PathArguments, PathSegment, Type, parse_quote};

/// Returns the type of a field's value, and whether there's a handle in the field.
pub(crate) fn value_type(field: &Type) -> (Type, bool) {
    let mut ty = field.clone();
    let mut values = Values { found: false };
    values.visit_type_mut(&mut ty);
    (ty, values.found)
}

/// Replaces the handles in a type by their values.
struct Values {
    found: bool,
}

impl VisitMut for Values {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        // What is in a handle is a value already, also if that is a handle.
        match handle(ty) {
            Some(value) => {
                *ty = value;
                self.found = true;
            }
            None => {
                let outside = std::mem::take(&mut self.found);
                visit_type_mut(self, ty);
                if self.found {
                    if let Some(element) = boxed_slice(ty) {
                        // As a task gets the values of any slice.
                        *ty = parse_quote!(::std::vec::Vec<#element>);
                    }
                }
                self.found |= outside;
            }
        }
    }
}

/// Returns the type of the elements of a boxed slice.
fn boxed_slice(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|segment| segment.ident == "Box")?;
    match argument(last)? {
        Type::Slice(slice) => Some((*slice.elem).clone()),
        _ => None,
    }
}

/// Returns the type of what a task gets for a handle, if this is the type of one.
fn handle(ty: &Type) -> Option<Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|_| path.qself.is_none())?;
    let value = argument(last)?;
    if last.ident == "Handle" {
        Some(value.clone())
    } else if last.ident == "Settled" {
        Some(parse_quote!(::core::result::Result<#value, ::ensue::Error>))
    } else {
        None
    }
}

/// Returns the only argument of a segment of a path.
fn argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first() {
        Some(GenericArgument::Type(ty)) if arguments.args.len() == 1 => Some(ty),
        _ => None,
    }
}
