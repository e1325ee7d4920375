//! Keywords of Chinese texts.
//!
//! Never loads its dictionary before the first Chinese text: it takes tens of megabytes. Words are cut as `jieba` does
//! (a prefix dictionary and the most probable path) and weighed by term frequency against its table of how common each
//! word is; titles and headings count more.

use std::sync::LazyLock;

use jieba_rs::{Jieba, KeywordExtract, KeywordExtractConfig, TfIdf};

use super::{KEYWORDS_MAX, Keyword};
use crate::text::{Prose, cut};

/// Bytes of text that are cut into words: a hundred thousand characters.
const LOOK_BYTES_MAX: usize = 192 << 10;
/// Candidates that the table ranks before headings are counted.
const CANDIDATES_MAX: usize = 40;
/// How much more a word of the title, or of a heading, weighs.
const TITLE_WEIGHT: f64 = 1.6;
const HEADING_WEIGHT: f64 = 1.25;

/// Kinds of words that can name a matter: nouns, names, verbs used as nouns, foreign words, idioms and abbreviations
/// (`jieba`'s letters).
const NAMING: &[&str] = &["n", "nr", "ns", "nt", "nz", "nrt", "nrfg", "vn", "an", "eng", "l", "i", "j", "x", "v", "ng"];

struct Dictionary {
    jieba: Jieba,
    table: TfIdf,
}

static DICTIONARY: LazyLock<Dictionary> = LazyLock::new(|| {
    let mut table = TfIdf::default();
    let mut config = KeywordExtractConfig::builder();
    for word in STOPS.split_whitespace() {
        config = config.add_stop_word(word);
    }
    *table.config_mut() = config.build();
    Dictionary { jieba: Jieba::new(), table }
});

/// Words that `jieba` takes for telling and that are not.
const STOPS: &str = "我们 你们 他们 她们 它们 自己 这个 那个 这些 那些 这样 那样 这种 那种 什么 怎么 如何 为什么 可以 能够 可能 应该 \
    需要 必须 已经 正在 进行 使用 通过 根据 由于 因为 所以 因此 但是 然而 而且 并且 或者 以及 如果 虽然 对于 关于 其中 其他 其它 没有 \
    不是 不能 不会 就是 还是 只是 都是 一个 一种 一些 一般 一样 这里 那里 现在 以后 之后 之前 以前 时候 时间 问题 情况 方面 部分 包括 \
    主要 重要 非常 比较 更加 最后 首先 其次 同时 然后 开始 之间 以下 以上 如下 上述 本文 第一 第二 很多 许多 所有 每个 各种 不同 相关";

/// The keywords of a text in Chinese.
pub(super) fn keywords(prose: &Prose, body: &str) -> Vec<Keyword> {
    let dictionary = &*DICTIONARY;
    let body = cut(body, LOOK_BYTES_MAX);
    let naming = NAMING.iter().map(|letter| (*letter).to_owned()).collect();
    let text = format!("{}\n{body}", prose.title);
    let mut found = dictionary.table.extract_keywords(&dictionary.jieba, &text, CANDIDATES_MAX, naming);
    found.retain(|word| is_telling(&word.keyword));
    for word in &mut found {
        if prose.title.contains(&word.keyword) {
            word.weight *= TITLE_WEIGHT;
        } else if prose.headings.iter().any(|heading| heading.contains(&word.keyword)) {
            word.weight *= HEADING_WEIGHT;
        }
        // Verbs name a matter less often than nouns do.
        if word.tag == "v" {
            word.weight *= 0.6;
        }
    }
    // In a text of some length a word that is said once is seldom what it is about.
    let is_long = text.chars().take(400).count() == 400;
    found.retain(|word| !is_long || text.matches(&word.keyword).nth(1).is_some());
    found.sort_by(|one, two| two.weight.total_cmp(&one.weight).then_with(|| one.keyword.cmp(&two.keyword)));
    found.truncate(KEYWORDS_MAX);
    let best = found.first().map_or(1.0, |word| word.weight);
    let rated = |weight: f64| (0.9 * (weight / best).sqrt()).clamp(0.0, 1.0) as f32;
    found
        .into_iter()
        .map(|word| Keyword { confidence: rated(word.weight), text: word.keyword.to_lowercase() })
        .collect()
}

/// Two characters or a foreign word, and no number.
fn is_telling(word: &str) -> bool {
    let letters = word.chars().filter(|letter| letter.is_alphabetic()).count();
    letters >= 2 && !word.contains(|letter: char| letter.is_ascii_digit() && letters < 3)
}

#[cfg(test)]
mod tests {
    use super::keywords;
    use crate::text::Prose;

    #[test]
    fn a_chinese_text_gives_its_nouns() {
        let text = "分布式文件系统把元数据和数据分开保存。元数据服务器管理目录树，存储服务器保存数据块。\
            图数据库记录文件之间的关系，因此用户可以按照标签搜索文件。标签由分析程序自动生成。";
        let prose = Prose { title: "分布式文件系统".to_owned(), body: text.to_owned(), ..Prose::default() };
        let found: Vec<_> = keywords(&prose, text).into_iter().map(|keyword| keyword.text).collect();
        assert!(found.iter().take(5).any(|word| word.contains("文件")), "{found:?}");
        assert!(found.iter().any(|word| word == "标签"), "{found:?}");
        assert!(!found.iter().any(|word| word == "因此" || word == "可以"), "{found:?}");
    }
}
