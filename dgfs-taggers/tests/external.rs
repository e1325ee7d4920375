//! Taggers that users write: the documented example, and programs that break the rules.
//!
//! Runs real Python programs behind the real limits.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use dgfs_taggers::external::{External, load_all};
use dgfs_taggers::protocol::{Failed, Found};
use dgfs_taggers::{Job, kind_of};

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("external-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Registers a Python program.
    fn tagger(&self, program: &str, more: &str) -> External {
        fs::write(self.0.join("t.py"), program).unwrap();
        let toml = format!("name = 't'\nversion = 3\ncommand = ['python3', 't.py']\nclasses = ['text']\n{more}");
        fs::write(self.0.join("t.toml"), toml).unwrap();
        External::load(&self.0.join("t.toml"), &[]).unwrap()
    }

    async fn examine(&self, tagger: &External, text: &str) -> Result<Found, Failed> {
        let (size, bytes) = (text.len() as u64, text.as_bytes());
        let job = Job { name: "a.txt", size, bytes, mime_hint: None, charset_hint: None };
        let spool = self.0.join("spool");
        let outcome = tagger.examine(&job, &kind_of(&job), &spool).await;
        assert_eq!(fs::read_dir(&spool).unwrap().count(), 0, "the copy is removed");
        outcome
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn the_documented_example_works_as_documented() {
    let folder = Folder::new("example");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    let (taggers, refused) = load_all(&examples, &[]);
    assert!(refused.is_empty(), "{refused:?}");
    let tagger = taggers.iter().find(|tagger| tagger.name() == "word-count").unwrap();
    for (text, count) in [("three words here", 3.0), ("", 0.0), ("one", 1.0)] {
        let found = folder.examine(tagger, text).await.unwrap();
        assert_eq!((found.name.as_str(), found.version), ("word-count", 1));
        assert_eq!(found.findings.number_of("word-count"), Some(count));
        assert_eq!(found.findings.marks[0].tag, "short-read");
    }
    let job = Job { name: "a", size: 8, bytes: b"\x89PNG\r\n\x1a\n", mime_hint: None, charset_hint: None };
    assert!(!tagger.wants(&kind_of(&job)));
}

#[tokio::test]
async fn what_it_says_is_bounded_and_spelt_lawfully() {
    let folder = Folder::new("bounds");
    let program = "import sys,json\nfor l in sys.stdin:\n j=json.loads(l)\n print(json.dumps({'id':j['id'],'tags':['a/b,c']+\
        ['t%d'%i for i in range(500)],'values':{'k':'x'*5000,'n':1.5,'when':{'time':7}},'links':['x',\
        {'kind':'author','target':'Ada'}],'text':'word '*200000,'error':None}),flush=True)\n";
    let found = folder.examine(&folder.tagger(program, ""), "x").await.unwrap().findings;
    assert_eq!((found.marks.len(), found.marks[0].tag.as_str()), (64, "a b c"));
    assert_eq!((found.number_of("n"), found.time_of("when")), (Some(1.5), Some(7)));
    assert!(found.text_of("k").unwrap().len() <= 1024 && found.text.len() <= 256 << 10);
    assert_eq!(found.links.len(), 2);
}

#[tokio::test]
async fn one_that_breaks_the_rules_fails_one_job_and_goes_on() {
    let folder = Folder::new("rules");
    let program = "import sys,json,os,time,socket\nfor l in sys.stdin:\n j=json.loads(l)\n t=open(j['path']).read()\n a={'id':j['id']}\n \
        if t=='hang': time.sleep(100)\n \
        while t=='spin': pass\n if t=='eat': x='x'*(1<<30)\n if t=='die': os._exit(7)\n if t=='rubbish': print('{')\n \
        if t=='other': a['id']=0\n if t=='unknown': a['colour']=1\n if t=='error': a['error']='no idea'\n \
        if t=='twice': print(json.dumps(a))\n if t=='write': open('written','w').write('x')\n \
        if t=='net': socket.socket()\n if t=='child': os.system('sleep 100 &')\n print(json.dumps(a),flush=True)\n";
    let tagger = folder.tagger(program, "timeout_ms = 1000\nmemory_bytes = 268435456");
    let cases = [
        ("hang", "no answer within 6000 ms by the clock"),
        ("eat", "ended before it answered (exit status: 1)"),
        // By which of its two times depends on what else the machine does.
        ("spin", "the tagger process was killed"),
        ("die", "exit status: 7"),
        ("rubbish", "its line is not {\"id\""),
        ("other", "it answered job 0"),
        ("unknown", "unknown field `colour`"),
        ("error", "the tagger says: no idea"),
        ("write", "ended before it answered"),
        ("net", "ended before it answered"),
    ];
    for (text, words) in cases {
        let failed = folder.examine(&tagger, text).await.unwrap_err();
        assert!(failed.reason.contains(words), "{text}: {}", failed.reason);
        assert_eq!((failed.name.as_str(), failed.version), ("t", 3));
        folder.examine(&tagger, "fine").await.unwrap();
    }
    assert!(!folder.0.join("written").exists());
    // A second answer belongs to no job: the next job notices, and the one after it is served.
    folder.examine(&tagger, "twice").await.unwrap();
    let _ = folder.examine(&tagger, "fine").await;
    folder.examine(&tagger, "fine").await.unwrap();
}

/// A pipe that nobody writes to kept the index from starting for ever, and zeroes were printed into its log.
#[test]
fn what_is_no_registration_is_refused_at_once_and_in_printable_words() {
    let folder = Folder::new("rubbish");
    let pipe = folder.0.join("a.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::create_dir(folder.0.join("b.toml")).unwrap();
    fs::write(folder.0.join("c.toml"), "name = '\0\u{1b}[31m\0'\n".repeat(200)).unwrap();
    fs::write(folder.0.join("d.toml"), b"name = \xff\xfe").unwrap();
    fs::write(folder.0.join("e.toml"), " ".repeat(70_000)).unwrap();
    let (taggers, refused) = load_all(&folder.0, &[]);
    assert!(taggers.is_empty());
    let words = |error: &dyn std::error::Error| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let refused: Vec<String> = refused.iter().map(|error| words(error)).collect();
    let expected =
        ["regular file", "regular file", "\\u{", "UTF-8, which ends at byte 7", "70000 bytes, of at most 65536"];
    assert_eq!(refused.len(), expected.len(), "{refused:?}");
    for (refused, expected) in refused.iter().zip(expected) {
        assert!(refused.contains(expected), "{refused}");
        assert!(refused.len() < 2000 && !refused.contains(['\0', '\u{1b}']), "{refused:?}");
    }
}

#[tokio::test]
async fn the_network_is_there_only_if_it_was_asked_for() {
    let folder = Folder::new("network");
    let program = "import sys,json,socket\nfor l in sys.stdin:\n j=json.loads(l)\n s=socket.socket();s.close()\n \
        print(json.dumps({'id':j['id']}),flush=True)\n";
    folder.examine(&folder.tagger(program, "network = true"), "x").await.unwrap();
    folder.examine(&folder.tagger(program, "network = false"), "x").await.unwrap_err();
}

/// Does what a file says, as no tagger should.
const OBEYS: &str = "import sys,json,os,time,subprocess,signal\ndef tried(f,*a):\n try:\n  f(*a)\n  return 'done'\n except OSError as e:\n  \
    return type(e).__name__\nfor l in sys.stdin:\n j=json.loads(l)\n r={}\n exec(open(j['path']).read())\n \
    print(json.dumps({'id':j['id'],'values':r}),flush=True)\n";

/// A registered script changed the mode and the times of a directory outside, and could kill the mount.
#[tokio::test]
async fn attributes_of_files_and_other_processes_are_out_of_reach() {
    use std::os::unix::fs::MetadataExt as _;
    for network in ["network = false", "network = true"] {
        let folder = Folder::new(network);
        let tagger = folder.tagger(OBEYS, network);
        let victim = folder.0.join("victim");
        fs::write(&victim, "x").unwrap();
        let before = fs::metadata(&victim).unwrap();
        let orders = format!(
            "v={victim:?}\nr={{'mode':tried(os.chmod,v,0o777),'times':tried(os.utime,v,(1,1)),'owner':tried(os.chown,v,0,0),\
             'attribute':tried(os.setxattr,v,'user.x',b'1'),'parent':tried(os.kill,{},0),'self':tried(os.kill,os.getpid(),0)}}\n\
             p=subprocess.Popen(['sleep','600'])\np.kill()\nr['child']=p.wait()\n",
            std::process::id()
        );
        let found = folder.examine(&tagger, &orders).await.unwrap().findings;
        for key in ["mode", "times", "owner", "attribute"] {
            assert_eq!(found.text_of(key), Some("PermissionError"), "{key}");
        }
        let parent = found.text_of("parent").unwrap();
        assert!(["ProcessLookupError", "PermissionError"].contains(&parent), "{parent}");
        assert_eq!(found.text_of("self"), Some("PermissionError"));
        assert_eq!(found.number_of("child"), Some(-9.0), "what it started is its own");
        let after = fs::metadata(&victim).unwrap();
        assert_eq!((after.mode(), after.mtime_nsec()), (before.mode(), before.mtime_nsec()));
    }
}

/// Processes that run in this folder, as all do that a tagger started.
fn living(folder: &Path) -> usize {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let is_there = |entry: &fs::DirEntry| fs::read_link(entry.path().join("cwd")).is_ok_and(|place| place == folder);
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
    processes.filter(|entry| is_process(entry) && is_there(entry)).count()
}

async fn deserted(folder: &Path) {
    let gone = async {
        while living(folder) > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, gone).await.unwrap_or_else(|_| panic!("{} processes stay", living(folder)));
}

/// `setsid sleep &` of a tagger lived on after the mount, and a fork bomb had the whole machine.
#[tokio::test]
async fn what_a_tagger_started_is_bounded_and_ends_with_it() {
    let folder = Folder::new("orphans");
    let tagger = folder.tagger(OBEYS, "timeout_ms = 10000");
    let orphan = "subprocess.Popen(['sleep','600'],start_new_session=True)\nr={'ok':1}\n";
    folder.examine(&tagger, orphan).await.unwrap();
    assert_eq!(living(&folder.0), 2, "a tagger may start what it likes");
    folder.examine(&tagger, "os._exit(0)").await.unwrap_err();
    deserted(&folder.0).await;
    // No more than the machine bears where the kernel bounds nothing.
    let bomb = "n=0\ntry:\n while n<500:\n  if os.fork()==0:\n   os.setsid()\n   time.sleep(600)\n   os._exit(0)\n  n+=1\nexcept OSError: pass\nr={'forked':n}\n";
    let forked = folder.examine(&tagger, bomb).await.unwrap().findings.number_of("forked").unwrap();
    println!("{forked} processes of one tagger");
    assert!(kernel() < (6, 14) || forked < 400.0, "{forked}");
    drop(tagger);
    deserted(&folder.0).await;
}

/// Version of the kernel that runs.
fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_bad_registration_does_not_stop_the_others() {
    let folder = Folder::new("registrations");
    let good = |name: &str| format!("name = '{name}'\nversion = 1\ncommand = ['true']\nclasses = ['text']\n");
    for (file, text) in
        [("a.toml", good("a")), ("b.toml", "name =".to_owned()), ("c.toml", good("a")), ("d.toml", good("d"))]
    {
        fs::write(folder.0.join(file), text).unwrap();
    }
    let (taggers, refused) = load_all(&folder.0, &[]);
    assert_eq!(taggers.iter().map(External::name).collect::<Vec<_>>(), ["a", "d"]);
    assert_eq!(refused.len(), 2);
    assert!(
        refused[1].to_string().ends_with("c.toml: name = \"a\": another registration has this name"),
        "{refused:?}"
    );
    assert!(load_all(&folder.0.join("missing"), &[]).0.is_empty());
}
