//! What programs that know nothing of tags do with `.tags`.
//!
//! Never a program that the table of needed ones in `run` does not install.

use super::Case;

/// By program.
pub(super) const CASES: &[Case] = &[
    Case {
        of: "ls",
        line: "ls -la .tags .tags/beach .tags/@saved >/dev/null; test \"$(ls -A | grep -c '^.tags$')\" = 0",
        ends: "",
        holds: "",
    },
    Case { of: "ls", line: "ls -lR .tags >/dev/null", ends: "", holds: "" },
    Case {
        of: "stat",
        line: "test \"$(stat -c '%F %a' .tags/sun .tags/sun/a.jpg .tags/sun/@counts)\" = \"$(printf 'directory 777\\nsymbolic link 777\\nregular file 444')\"",
        ends: "",
        holds: "",
    },
    Case {
        of: "cat",
        line: "test \"$(cat .tags/sun/a.jpg)\" = \"$(cat photos/2020/a.jpg)\"; cat .tags/office/@counts | grep -q '^1.beach$'",
        ends: "",
        holds: "",
    },
    Case {
        of: "readlink",
        line: "test \"$(readlink -f .tags/sun/a.jpg)\" = \"$PWD/photos/2020/a.jpg\"",
        ends: "",
        holds: "",
    },
    Case {
        of: "cp",
        line: "cp -L .tags/sun/a.jpg taken; cmp taken photos/2020/a.jpg",
        ends: "",
        holds: "is photos/2020/a.jpg beach sun",
    },
    Case {
        of: "cp",
        line: "cp -a photos/2020/a.jpg copied; is copied beach sun; cp -r --no-dereference .tags/beach links; test -L links/b.jpg",
        ends: "",
        holds: "test -e .tags/sun/copied",
    },
    Case {
        of: "du",
        line: "du -s .tags >/dev/null; test \"$(du -s --apparent-size --block-size=1 . | cut -f1)\" -lt 100000",
        ends: "",
        holds: "",
    },
    Case {
        of: "find",
        line: "test \"$(find .tags/beach .tags/office -maxdepth 1 -type l | wc -l)\" = 5",
        ends: "",
        holds: "",
    },
    Case { of: "find", line: "test \"$(find .tags | wc -l)\" -lt 3000", ends: "", holds: "" },
    Case {
        of: "find",
        line: "test -z \"$(find . -name '@*')\"; test -z \"$(find . -path '*/.tags*')\"",
        ends: "",
        holds: "",
    },
    Case {
        of: "find",
        line: "find -L .tags/sun -maxdepth 1 -name '*.jpg' -size -1k -newer docs | wc -l >/dev/null",
        ends: "",
        holds: "",
    },
    Case {
        of: "find",
        line: "find .tags/beach -maxdepth 1 -type l -delete",
        ends: "",
        holds: "is photos/b.jpg; is photos/2020/a.jpg sun; is docs/a.jpg office",
    },
    Case {
        of: "rm",
        line: "rm -rf .tags/beach .tags/office",
        ends: "",
        holds: "is docs/a.jpg; is docs/report.txt place:cn:hefei rating=4",
    },
    Case {
        of: "rm",
        line: "rm -rf docs",
        ends: "",
        holds: "test ! -e .tags/office/report.txt; test -e .tags/sun/a.jpg",
    },
    Case {
        of: "tar",
        line: "tar -cf /dev/null .tags/beach; tar -chf - --exclude='@*' .tags/beach | tar -tf - | grep -q b.jpg",
        ends: "",
        holds: "",
    },
    Case {
        of: "tar",
        line: "tar --xattrs --xattrs-include='user.*' -cf all.tar photos docs; test \"$(tar -tf all.tar | grep -c '\\.tags')\" = 0; mkdir out; tar --xattrs --xattrs-include='user.*' -xf all.tar -C out; is out/docs/report.txt office place:cn:hefei rating=4",
        ends: "",
        holds: "test $(ls .tags/place:cn:hefei | grep -c report) = 2",
    },
    Case { of: "rsync", line: "rsync -a .tags/beach/ links/; test -L links/b.jpg", ends: "", holds: "" },
    Case {
        of: "rsync",
        line: "rsync -aL --exclude='@*' .tags/office/ files/; cmp files/report.txt docs/report.txt",
        ends: "",
        holds: "is docs/report.txt office place:cn:hefei rating=4",
    },
    Case {
        of: "rsync",
        line: "rsync -aX photos/ copies/; is copies/2020/a.jpg beach sun; test ! -L copies/.tags",
        ends: "",
        holds: "",
    },
    Case {
        of: "rsync",
        line: "rsync -a --delete photos/b.jpg .tags/beach/",
        ends: "not permitted",
        holds: "is photos/2020/a.jpg beach sun",
    },
    Case {
        of: "git",
        line: "git init -q .; git add -A; git -c user.name=a -c user.email=a@b commit -qm all; test -z \"$(git status --short)\"; test \"$(git ls-files | grep -c '@\\|\\.tags')\" = 0; git mv docs/plain.txt docs/moved.txt; git clean -fdxq",
        ends: "",
        holds: "is docs/report.txt office place:cn:hefei rating=4",
    },
    Case {
        of: "gio",
        line: "gio info .tags/sun/a.jpg | grep -q 'symlink-target: ../../photos/2020/a.jpg'; gio info -a standard::type .tags/sun | grep -q 'type: directory\\|standard::type: 2'",
        ends: "",
        holds: "",
    },
    Case {
        of: "gio",
        line: "gio list .tags/beach | grep -qx b.jpg; test \"$(gio list -h . | grep -c .tags)\" = 0",
        ends: "",
        holds: "",
    },
    Case { of: "gio", line: "gio cat .tags/sun/a.jpg | cmp - photos/2020/a.jpg", ends: "", holds: "" },
    Case {
        of: "gio",
        line: "gio copy .tags/sun/a.jpg taken.jpg; cmp taken.jpg photos/2020/a.jpg",
        ends: "",
        holds: "is photos/2020/a.jpg beach sun",
    },
    Case {
        of: "gio",
        line: "gio copy docs/plain.txt .tags/beach/new.txt",
        ends: "gio:",
        holds: "test ! -e .tags/beach/new.txt; is docs/plain.txt",
    },
    Case { of: "gio", line: "gio move docs/plain.txt .tags/beach/plain.txt", ends: "gio:", holds: "is docs/plain.txt" },
    Case {
        of: "gio",
        line: "gio move .tags/beach/b.jpg docs/b.jpg",
        ends: "gio:",
        holds: "is photos/b.jpg beach; test ! -e docs/b.jpg",
    },
    Case { of: "gio", line: "gio move .tags/beach/b.jpg .tags/sun/b.jpg", ends: "", holds: "is photos/b.jpg sun" },
    Case {
        of: "gio",
        line: "gio rename .tags/beach shore",
        ends: "",
        holds: "is photos/b.jpg shore; test ! -e .tags/beach",
    },
    Case {
        of: "gio",
        line: "gio rename photos/b.jpg c.jpg",
        ends: "",
        holds: "test -L .tags/beach/c.jpg; is photos/c.jpg beach",
    },
    Case { of: "gio", line: "gio remove .tags/beach/b.jpg", ends: "", holds: "is photos/b.jpg" },
    Case { of: "gio", line: "gio mkdir .tags/made", ends: "", holds: "test -d .tags/made" },
    Case {
        of: "gio",
        line: "gio set photos/b.jpg xattr::xdg.tags one,two",
        ends: "",
        holds: "is photos/b.jpg one two; test -L .tags/one/b.jpg",
    },
];
