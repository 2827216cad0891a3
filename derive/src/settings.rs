//! What the attributes say.

use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Ident, Path, Result, Token, Type, parenthesized};

/// The attributes of a struct.
#[derive(Default)]
pub(crate) struct StructSettings {
    pub(crate) name: Option<Ident>,
    pub(crate) derives: Vec<Path>,
    pub(crate) portable: bool,
}

/// The attribute of a field.
#[derive(Default)]
pub(crate) struct FieldSettings {
    /// The type that the task gets.
    pub(crate) value: Option<Type>,
}

/// One setting of a struct.
enum Setting {
    Name(Ident),
    Derive(Punctuated<Path, Token![,]>),
    Portable,
}

const OF_STRUCT: &str =
    "a struct has the settings `name = Name`, `derive(Trait, ..)` and `portable`";
const OF_FIELD: &str = "a field has the setting `as = Type`";

impl Parse for Setting {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.peek(Token![as]) {
            return Err(input.error(format!("`as` is a setting of a field; {OF_STRUCT}")));
        }
        let setting: Ident = input.parse().map_err(|error| Error::new(error.span(), OF_STRUCT))?;
        if setting == "name" {
            input.parse::<Token![=]>()?;
            Ok(Self::Name(input.parse()?))
        } else if setting == "derive" {
            let traits;
            parenthesized!(traits in input);
            Ok(Self::Derive(Punctuated::parse_terminated(&traits)?))
        } else if setting == "portable" {
            Ok(Self::Portable)
        } else {
            Err(Error::new(setting.span(), OF_STRUCT))
        }
    }
}

impl StructSettings {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut this = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("input")) {
            let settings =
                attribute.parse_args_with(Punctuated::<Setting, Token![,]>::parse_terminated)?;
            for setting in settings {
                match setting {
                    Setting::Name(name) => this.name = Some(name),
                    Setting::Derive(traits) => this.derives.extend(traits),
                    Setting::Portable => this.portable = true,
                }
            }
        }
        Ok(this)
    }
}

impl FieldSettings {
    pub(crate) fn of(attributes: &[Attribute]) -> Result<Self> {
        let mut this = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("input")) {
            this.value = Some(attribute.parse_args_with(|input: ParseStream<'_>| {
                if !input.peek(Token![as]) {
                    return Err(input.error(OF_FIELD));
                }
                input.parse::<Token![as]>()?;
                input.parse::<Token![=]>()?;
                input.parse()
            })?);
        }
        Ok(this)
    }
}
