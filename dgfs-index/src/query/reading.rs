//! What contents and attributes say, to those who may read them: a question finds nothing in a file by what its asker could
//! not read there.
//!
//! Never hides names, sizes, times and the tags that people gave: who may search a directory sees those with `ls -l`. Always:
//! whatever is asked of words, texts, contents and the time a picture was taken goes through here.

use std::borrow::Cow;

use roaring::RoaringBitmap;

use dgfs_proto::permission::Wanted;

use crate::graph::columns::{Doc, Facts, NEVER, NO_CONTENT};
use crate::graph::is_open;
use crate::graph::words::WordIx;
use crate::query::{Ask, Refusal};

impl<'a> Ask<'a> {
    /// May the asker read the content and the attributes of an inode?
    pub(crate) fn may_read(&self, doc: Doc) -> bool {
        self.viewer.uid == 0 || self.graph.may(doc, self.viewer, Wanted::READ)
    }

    /// Those of `docs` that the asker may read.
    pub(crate) fn readable<'b>(&self, docs: Cow<'b, RoaringBitmap>) -> Result<Cow<'b, RoaringBitmap>, Refusal> {
        if self.viewer.uid == 0 {
            return Ok(docs);
        }
        let mut kept = RoaringBitmap::new();
        let mut steps = 0;
        for doc in docs.iter() {
            self.deadline.check_sometimes(&mut steps)?;
            if self.graph.may(doc, self.viewer, Wanted::READ) {
                // Documents come in order.
                let _ = kept.try_push(doc);
            }
        }
        Ok(Cow::Owned(kept))
    }

    /// Those of which a word is said, as far as the asker may know.
    pub(crate) fn said(&self, word: WordIx) -> Result<Option<Cow<'a, RoaringBitmap>>, Refusal> {
        let Some(docs) = self.graph.words.docs(word) else { return Ok(None) };
        if is_open(self.graph.words.shown(word)) {
            return Ok(Some(Cow::Borrowed(docs)));
        }
        self.readable(Cow::Borrowed(docs)).map(Some)
    }

    /// What is said of an inode, as far as the asker may know.
    pub(crate) fn words_of(&self, doc: Doc) -> &'a [WordIx] {
        if self.may_read(doc) { self.graph.words_of(doc) } else { &[] }
    }

    /// All that carry one of these folded names, or what lies below, as far as the asker may know.
    pub(crate) fn carriers(&self, names: impl IntoIterator<Item = String>) -> Result<RoaringBitmap, Refusal> {
        let (open, said) = self.graph.carriers_apart(names);
        Ok(open | self.readable(Cow::Owned(said))?.as_ref())
    }

    /// What is kept of an inode, without what only its content tells where the asker may not read that.
    pub(crate) fn facts(&self, doc: Doc) -> Facts {
        let facts = *self.graph.columns.facts(doc);
        let tells = facts.content != NO_CONTENT || facts.taken_ns != NEVER;
        if tells && !self.may_read(doc) { Facts { content: NO_CONTENT, taken_ns: NEVER, ..facts } } else { facts }
    }
}
