//! Every public async function says how it fails, what a dropped future leaves, and what it costs.
//!
//! "Public" is the word `pub`: the compiler's `unreachable_pub` lint keeps it to what users can reach. Functions that
//! return `impl Future` count too, and so do those written in a macro; their documentation must stand beside them.

use std::collections::HashSet;
use std::path::PathBuf;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemFn, ItemMod, ItemTrait, Macro, ReturnType, Signature, Type, Visibility};

use super::Finding;
use super::source::{self, Source, bracketed, is_sign, is_word};

/// The sections that must be there, with some text in each.
const SECTIONS: [&str; 3] = ["Errors", "Cancel safety", "Cost"];

/// Checks the sources of the library crates.
pub(super) fn check(sources: &[&Source]) -> Vec<Finding> {
    let tests = test_modules(sources);
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !tests.iter().any(|test| source.path.starts_with(test))) {
        let mut visitor = Visitor { source, findings: &mut findings };
        visitor.visit_file(&source.tree);
    }
    findings
}

/// Files and directories that are only compiled for tests: `#[cfg(test)] mod name;`.
fn test_modules(sources: &[&Source]) -> HashSet<PathBuf> {
    let mut paths = HashSet::new();
    for source in sources {
        let Some(directory) = source.path.parent() else { continue };
        let stem = source.path.file_stem().unwrap_or_default();
        let children =
            if stem == "lib" || stem == "main" || stem == "mod" { directory.to_owned() } else { directory.join(stem) };
        for item in &source.tree.items {
            if let Item::Mod(module) = item
                && module.content.is_none()
                && for_tests(&module.attrs)
            {
                let child = children.join(module.ident.to_string());
                paths.insert(child.with_extension("rs"));
                paths.insert(child);
            }
        }
    }
    paths
}

struct Visitor<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
}

impl Visitor<'_> {
    fn check(&mut self, visible: bool, attributes: &[Attribute], signature: &Signature) {
        if visible && is_async(signature) && !for_tests(attributes) {
            let docs = attributes.iter().filter_map(doc_text).collect::<Vec<_>>().join("\n");
            self.report(&docs, &signature.ident.to_string(), signature.fn_token.span.start().line);
        }
    }

    fn report(&mut self, docs: &str, name: &str, line: usize) {
        let missing: Vec<String> =
            SECTIONS.iter().filter(|title| !has_section(docs, title)).map(|title| format!("`# {title}`")).collect();
        if !missing.is_empty() {
            let message = format!("the public async fn `{name}` has no {} in its documentation", missing.join(", "));
            self.findings.push(Finding::new(&self.source.path, line, message));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.check(is_public(&item.vis), &item.attrs, &item.sig);
        // What is declared inside a function can't be public; macros called there can't declare public items either.
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.check(is_public(&item.vis), &item.attrs, &item.sig);
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        for member in &item.items {
            if let syn::TraitItem::Fn(function) = member {
                self.check(is_public(&item.vis), &function.attrs, &function.sig);
            }
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        for (docs, name, line) in functions_in_macro(&called.tokens) {
            self.report(&docs, &name, line);
        }
    }
}

/// `pub async fn` in tokens that are not parsed: its documentation, name and line.
fn functions_in_macro(tokens: &TokenStream) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    source::each_list(tokens, &mut |list| {
        for (at, tree) in list.iter().enumerate() {
            let follows = is_word(list.get(at + 1), "async") && is_word(list.get(at + 2), "fn");
            if is_word(Some(tree), "pub") && follows {
                let name = list.get(at + 3).map(ToString::to_string).unwrap_or_default();
                found.push((docs_before(list, at), name, source::line_of(tree)));
            }
        }
    });
    found
}

/// The text of the doc attributes that end just before this token.
fn docs_before(list: &[TokenTree], mut at: usize) -> String {
    let mut parts = Vec::new();
    while at >= 2 && is_sign(list.get(at - 2), '#') {
        let Some(attribute) = bracketed(list.get(at - 1)) else { break };
        if is_word(attribute.first(), "doc") {
            parts.push(literals(attribute.into_iter().collect()));
        }
        at -= 2;
    }
    parts.reverse();
    parts.join("\n")
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn is_async(signature: &Signature) -> bool {
    signature.asyncness.is_some() || returns_future(&signature.output)
}

fn returns_future(output: &ReturnType) -> bool {
    let ReturnType::Type(_, returned) = output else { return false };
    let Type::ImplTrait(returned) = &**returned else { return false };
    returned.bounds.iter().any(|bound| match bound {
        syn::TypeParamBound::Trait(bound) => bound.path.segments.last().is_some_and(|last| last.ident == "Future"),
        _ => false,
    })
}

/// Whether the attributes say `#[cfg(test)]`, or `cfg` with `test` in any combination but `not`.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let (mut test, mut not) = (false, false);
        source::each_list(&list.tokens, &mut |tokens| {
            test |= tokens.iter().any(|tree| is_word(Some(tree), "test"));
            not |= tokens.iter().any(|tree| is_word(Some(tree), "not"));
        });
        list.path.is_ident("cfg") && test && !not
    })
}

fn doc_text(attribute: &Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    if !pair.path.is_ident("doc") {
        return None;
    }
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        syn::Expr::Macro(called) => Some(literals(called.mac.tokens.clone())),
        _ => None,
    }
}

/// All string literals in these tokens, as `concat!` would put them together.
fn literals(tokens: TokenStream) -> String {
    let mut text = String::new();
    source::each_list(&tokens, &mut |list| {
        for tree in list {
            if let TokenTree::Literal(literal) = tree
                && let Ok(literal) = syn::parse_str::<syn::LitStr>(&literal.to_string())
            {
                text.push_str(&literal.value());
            }
        }
    });
    text
}

/// Whether there is a heading of this title with text below it.
fn has_section(docs: &str, title: &str) -> bool {
    let heading = |line: &str| {
        let rest = line.trim_start().trim_start_matches('#');
        (rest.len() < line.trim_start().len() && rest.starts_with(' ')).then(|| rest.trim().to_owned())
    };
    let mut lines = docs.lines().skip_while(|line| heading(line).as_deref() != Some(title)).skip(1);
    lines.find(|line| !line.trim().is_empty()).is_some_and(|line| heading(line).is_none())
}

#[cfg(test)]
mod tests;
