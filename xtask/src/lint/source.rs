//! A Rust file, as text, as tokens and as a syntax tree.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A parsed Rust file.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) tokens: TokenStream,
    pub(super) tree: syn::File,
}

impl Source {
    /// Reads and parses a file.
    ///
    /// # Errors
    ///
    /// When it can't be read or is not Rust.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(path, text)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// When it is not Rust.
    pub(super) fn parse(path: &Path, text: String) -> Result<Self> {
        let wrong = |line: usize, what: String| anyhow!("{}:{line}: not understood: {what}", path.display());
        let tokens: TokenStream =
            text.parse().map_err(|error: proc_macro2::LexError| wrong(error.span().start().line, error.to_string()))?;
        let tree = syn::parse_file(&text).map_err(|error| wrong(error.span().start().line, error.to_string()))?;
        Ok(Self { path: path.to_owned(), text, tokens, tree })
    }
}

/// Calls `see` for every list of sibling tokens: the file's own, and those inside each pair of brackets.
pub(super) fn each_list(tokens: &TokenStream, see: &mut impl FnMut(&[TokenTree])) {
    let list: Vec<TokenTree> = tokens.clone().into_iter().collect();
    see(&list);
    for tree in &list {
        if let TokenTree::Group(group) = tree {
            each_list(&group.stream(), see);
        }
    }
}

/// Whether this token is the given word.
pub(super) fn is_word(tree: Option<&TokenTree>, word: &str) -> bool {
    matches!(tree, Some(TokenTree::Ident(ident)) if ident == word)
}

/// Whether this token is the given sign.
pub(super) fn is_sign(tree: Option<&TokenTree>, sign: char) -> bool {
    matches!(tree, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// The tokens in the square brackets of an attribute, if this token is that.
pub(super) fn bracketed(tree: Option<&TokenTree>) -> Option<Vec<TokenTree>> {
    match tree {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    }
}

/// The line of a token, from 1.
pub(super) fn line_of(tree: &TokenTree) -> usize {
    tree.span().start().line
}

#[cfg(test)]
pub(super) fn sample(text: &str) -> Source {
    Source::parse(Path::new("sample.rs"), text.to_owned()).unwrap()
}
