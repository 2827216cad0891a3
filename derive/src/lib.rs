//! `#[derive(Input)]` for the crate [`ensue`](https://docs.rs/ensue), which re-exports it with its feature `derive`.

mod expand;
mod settings;
mod values;

use proc_macro::TokenStream;

/// Makes a struct that holds handles an input of a task.
///
/// For a struct `Job` it makes a second struct, `JobValues`, with the same fields, in which each `Handle<T>` is replaced by
/// `T` and each `Settled<T>` by `Result<T, Error>`. A `Job` is then an input for an argument of type `JobValues`: the task
/// waits for its handles, as it does for those in a tuple. All other fields are plain values.
///
/// ```
/// use ensue::{Client, Error, Handle, Input, Ref, Settled};
///
/// #[derive(Input)]
/// struct Job {
///     image: Handle<Vec<u8>>,
///     masks: Vec<(String, Handle<u8>)>,
///     #[input(as = Ref<Vec<u8>>)]
///     background: Handle<Vec<u8>>,
///     caption: Settled<String>,
///     size: usize,
/// }
///
/// async fn render(job: JobValues) -> usize {
///     let background: &Vec<u8> = &job.background;
///     let caption = job.caption.unwrap_or_else(|error: Error| error.to_string());
///     job.size * (job.image.len() + job.masks.len() + background.len() + caption.len())
/// }
///
/// let client = Client::new();
/// let image = client.submit(async || vec![1, 2, 3], ());
/// let job = Job {
///     image: image.clone(),
///     masks: vec![("red".to_owned(), client.ready(7))],
///     background: image,
///     caption: client.submit(async || "sea".to_owned(), ()).settled(),
///     size: 2,
/// };
/// assert_eq!(client.submit(render, job).result().unwrap(), 20);
/// ```
///
/// A struct may have type parameters, and unnamed fields. A boxed slice of handles arrives as a vector. [`map`](../ensue/struct.Client.html#method.map) takes an iterator of
/// such structs; a `Vec` of them isn't an input, but a field of another such struct is, with `#[input(as = JobValues)]`.
///
/// # Attributes
///
/// | attribute | of | what it does |
/// |---|---|---|
/// | `#[input(as = Type)]` | a field | says what the task gets of it, such as `Ref<T>` for a handle, or where an alias hides a handle |
/// | `#[input(name = Name)]` | the struct | the name of the second struct |
/// | `#[input(derive(Clone, Debug))]` | the struct | the traits that the second struct derives; fallible and retried tasks need `Clone` |
/// | `#[input(portable)]` | the struct | makes it a `PortableInput`, so that an `Engine` takes it: the second struct derives serde's `Serialize` and `Deserialize`, without attributes, and `Clone` |
#[proc_macro_derive(Input, attributes(input))]
pub fn derive_input(item: TokenStream) -> TokenStream {
    let item = syn::parse_macro_input!(item as syn::DeriveInput);
    expand::expand(&item).unwrap_or_else(|error| error.into_compile_error()).into()
}

/// Compiles and runs the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
