//! Words that mean nothing by themselves.
//!
//! Never holds a word that can name a matter alone. For a language without a list, short words are taken for such.

use std::collections::HashSet;

/// Bytes of a word that is a stop word where no list says more.
const SHORT_BYTES_MAX: usize = 3;

/// The stop words of one language; English ones too, since texts quote English everywhere.
pub(super) struct StopWords {
    words: HashSet<&'static str>,
    are_short_ones: bool,
}

impl StopWords {
    pub(super) fn of(language: Option<&str>) -> Self {
        let own = language.map_or("", list);
        let are_short_ones = own.is_empty() && language.is_some_and(|code| code != "en");
        Self { words: EN.split_whitespace().chain(own.split_whitespace()).collect(), are_short_ones }
    }

    /// The words of the language's own list; none if there is no list.
    pub(super) fn listed(language: &str) -> HashSet<&'static str> {
        let own = if language == "en" { EN } else { list(language) };
        own.split_whitespace().collect()
    }

    /// Whether a word in lower case is common in texts on any matter: it may be part of a keyword, seldom one alone.
    pub(super) fn is_common(lower: &str) -> bool {
        let singular = lower.strip_suffix('s').unwrap_or(lower);
        COMMON.iter().any(|line| line.split(' ').any(|word| word == lower || word == singular))
    }

    /// Whether a word in lower case is one.
    pub(super) fn has(&self, lower: &str) -> bool {
        let plain = lower.strip_suffix("'s").or_else(|| lower.strip_suffix("\u{2019}s")).unwrap_or(lower);
        let is_short = lower.chars().take(2).count() < 2 || (self.are_short_ones && lower.len() <= SHORT_BYTES_MAX);
        is_short || self.words.contains(plain) || (lower.contains(['\'', '\u{2019}']) && is_contraction(lower))
    }
}

fn list(language: &str) -> &'static str {
    match language {
        "de" => DE,
        "fr" => FR,
        "es" => ES,
        "it" => IT,
        "pt" => PT,
        "nl" => NL,
        "ru" => RU,
        _ => "",
    }
}

/// `don't`, `we're`, `they've`.
fn is_contraction(lower: &str) -> bool {
    [
        "'t",
        "'re",
        "'ve",
        "'ll",
        "'d",
        "'m",
        "\u{2019}t",
        "\u{2019}re",
        "\u{2019}ve",
        "\u{2019}ll",
        "\u{2019}d",
        "\u{2019}m",
    ]
    .iter()
    .any(|ending| lower.ends_with(ending))
}

const EN: &str = "a about above across actually after again against ago all almost alone along already also although always am \
    among amongst an and another any anybody anyone anything anyway anywhere are around as aside at away back be became \
    because become becomes becoming been before beforehand behind being below beside besides between beyond both but by came \
    can cannot certain certainly clearly come comes could currently did do does doing done down due during each eg e.g either \
    else elsewhere enough especially et etc even ever every everybody everyone everything everywhere exactly except far few \
    first five for former formerly forth found four from further furthermore gave general generally get gets getting give given \
    gives giving go goes going gone got had hardly has have having he hello hence her here hereby herein hers herself him \
    himself his how however i ie i.e if in inc indeed inner instead into inward is it its itself just keep keeps kept know \
    known knows large largely last lately later latter least less lest let lets like liked likely little long look looking \
    looks made mainly make makes making many may maybe me mean meanwhile means merely might mine more moreover most mostly much \
    must my myself namely near nearly need needed needs neither never nevertheless new next no nobody non none nor normally not \
    nothing now nowhere obviously of off often oh ok okay old on once one ones only onto or other others otherwise ought our \
    ours ourselves out outside over overall own particular particularly per perhaps please plus possible possibly presumably \
    probably provides put quite rather really recent recently regarding relatively respectively right said same saw say saying \
    says second secondly see seeing seem seemed seeming seems seen self several shall she should show showed showing shown shows \
    shortly similar similarly since six small so some somebody somehow someone something sometime sometimes somewhat somewhere \
    soon still such sure take taken takes taking tell ten than thank thanks that the their theirs them themselves then thence \
    there thereafter thereby therefore therein these they thing things think third this those though thought three through \
    throughout thru thus to today together too took toward towards tried tries truly try trying twice two under unless unlike \
    until unto up upon us use used useful uses using usually various versus very via want wants was way ways we well went were \
    what whatever when whence whenever where whereas whereby wherein wherever whether which while who whoever whole whom whose \
    why will with within without would year years yes yet you your yours yourself yourselves zero able according accordingly \
    allow allows appear appropriate based better best big called case cases different end fact good great high high-level \
    higher important including kind lot low lower main major new-style number numbers obtain obtained order part parts people \
    present presented propose proposed result results section significant simple simply single sort specific state today's \
    total type types work works years' two-way introduced considered consider described describe discuss discussed paper \
    example examples following follow follows time times day days vs fig figure table mr mrs ms dr com www http https";

/// Words of documents, of software's papers and of offices, in the singular.
const COMMON: &[&str] = &[
    "version license licence documentation document status build release change changelog note example code source project",
    "package library crate module feature support option default file name value function method class object item list text",
    "issue contribution contributor author copyright mit apache bsd gpl copy permission warranty software badge link page site",
    "readme install installation usage guide overview introduction background summary abstract conclusion reference appendix",
    "chapter contents index table figure step question answer problem solution approach idea point fact reason change review",
    "minimum maximum current available optional required requirement additional multiple existing complete simple easy fast",
    "user people person company group team member man woman world country state government public private work job life home",
    "month week hour minute second today tomorrow yesterday january february march april june july august september october",
    "november december monday tuesday wednesday thursday friday saturday sunday million billion percent",
    "rust python java javascript crate repository branch commit pull request git github gitlab docs doc api standard",
    "information detail description property setting parameter argument return input output field entry string test run set",
];

const DE: &str = "aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes auch auf aus bei \
    beim bereits bin bis bist da dabei dadurch dafür damit danach dann darauf darin darüber das dass dazu dein deine dem den \
    denn der deren des dessen die dies diese diesem diesen dieser dieses doch dort du durch ein eine einem einen einer eines \
    einige er es etwa etwas euch euer für ganz gegen gibt hab habe haben hat hatte hatten hier hin hinter ich ihm ihn ihnen ihr \
    ihre ihrem ihren ihrer im immer in indem ins ist ja jede jedem jeden jeder jedes jedoch jene jetzt kann kein keine keinen \
    können könnte machen man manche mehr mein meine mich mir mit muss müssen nach nicht nichts noch nun nur ob oder ohne schon \
    sehr sein seine seinem seinen seiner seit sich sie sind so sodass solche soll sollen sollte sondern sonst sowie über um und \
    uns unser unsere unter viel viele vom von vor während war waren warum was wegen weil weiter welche welcher wenn wer werde \
    werden wie wieder will wir wird wo wollen worden wurde wurden zu zum zur zwar zwischen zwei drei jahr jahre neue neuen";

const FR: &str = "ai alors après au aucun aussi autre autres aux avait avant avec avoir c'est car ce ceci cela celle celles celui \
    ces cet cette ceux chaque chez comme comment contre déjà dans de depuis des deux doit donc dont du elle elles en encore \
    entre est et été étaient était être eu eux fait faire fois font ici il ils je jusque la le les leur leurs lors lui même \
    mais mes moins mon ne ni non nos notre nous on ont ou où par parce pas pendant peu peut peuvent plus pour pourquoi quand \
    que quel quelle quelles quelque quelques quels qui quoi sa sans se sera ses seulement si sien son sont sous sur ta tandis \
    tel telle tels tes ton toujours tous tout toute toutes très trop tu un une vers voici votre vous y à ainsi plusieurs";

const ES: &str = "a al algo algunas algunos ante antes aquel aquella así aunque cada cómo como con contra cual cuales cuando de del \
    desde donde dos durante e el él ella ellas ellos en entre era eran es esa esas ese eso esos esta está están estas este esto \
    estos fue fueron ha haber había hace hacer hacia han hasta hay la las le les lo los más me mi mientras muy nada ni no nos \
    nosotros nuestra nuestro o os otra otras otro otros para pero poco por porque pueda puede pueden pues que qué quien se sea \
    según ser si sí sido sin sino sobre solo son su sus tal también tan tanto te tiene tienen toda todas todo todos tras tu un \
    una unas uno unos usted ya yo y";

const IT: &str = "a ad ai al alla alle allo agli anche ancora avere aveva c'è che chi ci ciò come con contro cui da dal dalla dalle \
    dei del della delle dello di dopo dove due e è ed era erano essere fa fare fra gli ha hanno i il in io la le lei li lo loro \
    lui ma mi mia mio molto ne negli nei nel nella nelle no noi non nostro o ogni per perché però più poi può qual quale quali \
    quando quanto quella quelle quelli quello questa queste questi questo qui se sei senza si sia sono sopra sotto stata stato \
    su sua sue sui sul sulla suo suoi tra tutta tutte tutti tutto un una uno vi voi";

const PT: &str = "a ao aos as à às até cada com como da das de dela dele depois do dos e é ela elas ele eles em entre era eram essa \
    esse esta está estão este foi foram há isso isto já lhe mais mas me mesmo meu minha muito na não nas nem no nos nós num numa o os \
    ou outra outras outro outros para pela pelas pelo pelos por porque qual quando que quem se seja sem ser seu seus só sobre sua \
    suas também te tem têm ter toda todas todo todos um uma umas uns você";

const NL: &str = "aan al alle als andere bij daar dan dat de deze die dit door dus een en er geen had heb hebben heeft het hier hij \
    hoe hun ik in is ja je kan kunnen maar me meer men met mijn moet na naar niet niets nog nu of om omdat onder ons ook op over \
    te tegen toch toen tot uit van veel voor was wat we wel werd wie wij wil worden wordt zal ze zei zelf zich zij zijn zo zonder zou";

const RU: &str = "а без более бы был была были было быть в вам вас во вот все всех вы где да даже для до его ее если \
    есть еще же за и из или им их к как когда которые который кто ли мне может мы на над нас не него нет ни но о об \
    он она они от по под при с со так также то только у чем что чтобы это этот я";
