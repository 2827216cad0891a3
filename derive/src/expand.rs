//! The expansion: the struct of the values, and the implementations that compose its inputs.
//!
//! Nothing of this knows how a task waits. The fields are composed from inputs that exist, and their values are moved into
//! the struct, all in safe code.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Data, DeriveInput, Error, Fields, Generics, Ident, Result, Type, WherePredicate, parse_quote,
    parse_quote_spanned,
};

use crate::settings::{FieldSettings, StructSettings};
use crate::values;

/// A field, and what the task gets of it.
struct Part<'a> {
    field: &'a syn::Field,
    /// The name or the number.
    member: syn::Member,
    /// A name for its value.
    local: Ident,
    value: Type,
}

pub(crate) fn expand(item: &DeriveInput) -> Result<TokenStream> {
    let fields = fields(item)?;
    let settings = StructSettings::of(&item.attrs)?;
    if let Some(lifetime) = item.generics.lifetimes().next() {
        return Err(Error::new(
            lifetime.span(),
            "a task may outlive what is borrowed, so its inputs have no lifetimes: hold a `Handle`, \
             which is cheap to clone, or a value",
        ));
    }
    let parts = parts(item, fields)?;
    let name =
        settings.name.clone().unwrap_or_else(|| format_ident!("{}Values", item.ident.unraw()));
    let generics = bounded(item, &name, &parts);
    let values = values_struct(item, &name, &settings, fields, &parts);
    let input = input(item, &name, &generics, fields, &parts);
    let portable = settings.portable.then(|| portable(item, &name, &generics, fields, &parts));
    Ok(quote! {
        #values
        const _: () = {
            #input
            #portable
        };
    })
}

/// Returns the fields of a struct.
fn fields(item: &DeriveInput) -> Result<&Fields> {
    let (what, span) = match &item.data {
        Data::Struct(data) => return Ok(&data.fields),
        Data::Enum(data) => ("an enum", data.enum_token.span),
        Data::Union(data) => ("a union", data.union_token.span),
    };
    let text = format!(
        "`Input` can be derived for a struct, and this is {what}: hold the handles in a struct, or in an `Option` or a \
         `Result`, which are inputs"
    );
    Err(Error::new(span, text))
}

fn parts<'a>(item: &DeriveInput, fields: &'a Fields) -> Result<Vec<Part<'a>>> {
    let mut has_inputs = false;
    let members = fields.iter().zip(fields.members()).enumerate();
    let parts = members.map(|(at, (field, member))| {
        let settings = FieldSettings::of(&field.attrs)?;
        let (value, has_handle) = match settings.value {
            Some(value) => (value, true),
            None => values::value_type(&field.ty),
        };
        has_inputs |= has_handle;
        Ok(Part { field, member, local: format_ident!("value_{at}"), value })
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    if !has_inputs {
        return Err(Error::new(
            item.ident.span(),
            "no field holds a `Handle` or a `Settled`, so this is a plain value, which is an input as it is; where an \
             alias hides a handle, say what the task gets: `#[input(as = Type)]`",
        ));
    }
    Ok(parts)
}

/// Returns the generics of the implementations. What the fields need are bounds, also of a struct without parameters: so the
/// compiler reports each of them once, at the field.
fn bounded(item: &DeriveInput, name: &Ident, parts: &[Part<'_>]) -> Generics {
    let mut generics = item.generics.clone();
    let (_, arguments, _) = item.generics.split_for_impl();
    let bounds = parts.iter().map(|Part { field, value, .. }| -> WherePredicate {
        let ty = &field.ty;
        parse_quote_spanned!(ty.span()=> #ty: ::ensue::Input<#value>)
    });
    let own: WherePredicate = parse_quote!(#name #arguments: ::core::marker::Send + 'static);
    generics.make_where_clause().predicates.extend(bounds.chain([own]));
    generics
}

/// Returns the struct of the values.
fn values_struct(
    item: &DeriveInput,
    name: &Ident,
    settings: &StructSettings,
    fields: &Fields,
    parts: &[Part<'_>],
) -> TokenStream {
    let DeriveInput { vis, ident, generics, .. } = item;
    let text =
        format!("What a task gets for a [`{ident}`]: the same with the values of its handles.");
    let derives = &settings.derives;
    let derives = (!derives.is_empty()).then(|| quote!(#[derive(#(#derives),*)]));
    let clause = &generics.where_clause;
    let each = parts.iter().map(|Part { field, value, .. }| {
        let syn::Field { vis, ident, .. } = field;
        let docs = field.attrs.iter().filter(|attribute| attribute.path().is_ident("doc"));
        let name = ident.as_ref().map(|ident| quote!(#ident:));
        quote!(#(#docs)* #vis #name #value)
    });
    match fields {
        Fields::Named(_) => {
            quote!(#[doc = #text] #derives #vis struct #name #generics #clause { #(#each),* })
        }
        _ => quote!(#[doc = #text] #derives #vis struct #name #generics (#(#each),*) #clause;),
    }
}

/// Returns the implementation of `Input`, which composes those of the fields.
fn input(
    item: &DeriveInput,
    name: &Ident,
    generics: &Generics,
    fields: &Fields,
    parts: &[Part<'_>],
) -> TokenStream {
    let ident = &item.ident;
    let (_, arguments, _) = item.generics.split_for_impl();
    let (parameters, _, clause) = generics.split_for_impl();
    let end = || quote!(::ensue::__derive::End);
    let end = (end(), end(), quote!(_), end());
    // From the last field to the first: each is a pair with what follows it.
    let (given, types, pattern, args) = parts.iter().rev().fold(end, |rest, part| {
        let Part { field, member, local, value } = part;
        let ty = &field.ty;
        let (given, types, pattern, args) = rest;
        (
            quote!(::ensue::__derive::Pair(self.#member, #given)),
            quote!(::ensue::__derive::Pair<#ty, #types>),
            quote!((#local, #pattern)),
            quote!((#value, #args)),
        )
    });
    let made = made(name, fields, parts);
    quote! {
        #[allow(trivial_bounds)]
        impl #parameters ::ensue::Input<#name #arguments> for #ident #arguments #clause {}

        #[allow(trivial_bounds)]
        impl #parameters ::ensue::__derive::IntoWait<#name #arguments> for #ident #arguments #clause {
            type Wait = ::ensue::__derive::Mapped<
                <#types as ::ensue::__derive::IntoWait<#args>>::Wait,
                #args,
                #name #arguments,
            >;

            fn into_wait(self, seal: ::ensue::__derive::InputSeal) -> Self::Wait {
                let inputs = ::ensue::__derive::IntoWait::<#args>::into_wait(#given, seal);
                ::ensue::__derive::Mapped::new(inputs, |#pattern: #args| #made)
            }
        }
    }
}

/// Returns the expression that makes the struct of the values.
fn made(name: &Ident, fields: &Fields, parts: &[Part<'_>]) -> TokenStream {
    let locals = parts.iter().map(|part| &part.local);
    match fields {
        Fields::Named(_) => {
            let members = parts.iter().map(|part| &part.member);
            quote!(#name { #(#members: #locals),* })
        }
        _ => quote!(#name(#(#locals),*)),
    }
}

/// Returns the implementation of `PortableInput`, which visits the fields as serde would the struct of the values.
fn portable(
    item: &DeriveInput,
    name: &Ident,
    generics: &Generics,
    fields: &Fields,
    parts: &[Part<'_>],
) -> TokenStream {
    let ident = &item.ident;
    let (_, arguments, _) = item.generics.split_for_impl();
    let mut generics = generics.clone();
    let bounds = parts.iter().map(|Part { field, value, .. }| -> WherePredicate {
        let ty = &field.ty;
        parse_quote_spanned!(ty.span()=> #ty: ::ensue::PortableInput<#value>)
    });
    generics.make_where_clause().predicates.extend(bounds);
    let (parameters, _, clause) = generics.split_for_impl();
    let count = parts.len();
    let head = match fields {
        Fields::Named(_) => quote!(to.map(#count);),
        // As serde does, which writes a struct of one unnamed field as that.
        _ if count == 1 => quote!(),
        _ => quote!(to.list(#count);),
    };
    let each = parts.iter().map(|Part { field, member, value, .. }| {
        let ty = &field.ty;
        let key = field.ident.as_ref().map(|ident| {
            let text = ident.unraw().to_string();
            quote!(to.plain(#text);)
        });
        quote! {
            #key
            <#ty as ::ensue::PortableInput<#value>>::visit(self.#member, to, seal);
        }
    });
    quote! {
        #[allow(trivial_bounds)]
        impl #parameters ::ensue::PortableInput<#name #arguments> for #ident #arguments #clause {
            fn visit<Visitor: ::ensue::__derive::InputVisitor>(
                self,
                to: &mut Visitor,
                seal: ::ensue::__derive::InputSeal,
            ) {
                #head
                #(#each)*
            }
        }
    }
}
