# Makes a volume what every case of the tables begins with: files of known tags, whose contents say nothing to taggers but for one.
rm -rf ./* .tags/@saved/*
dgfs tag ls --in . | cut -f 2 | while read -r tag; do dgfs tag delete --force "$tag" --in .; done
mkdir -p photos/2020 docs
number=1
for file in photos/2020/a.jpg photos/b.jpg docs/a.jpg docs/report.txt docs/plain.txt; do
  printf '%s %s 111111111' $number $number$number$number >$file
  number=$((number + 1))
done
cp docs/plain.txt docs/copy.txt
printf 'hello world of erasure coding and replication\n' >docs/notes.md
for number in 1 2 3; do
  printf '\nReplication keeps data safe: replication %s costs space, and replication is simple.\n' $number >>docs/notes.md
done
give() { setfattr -n user.xdg.tags -v "$1" "$2"; }
give beach,sun photos/2020/a.jpg
give beach photos/b.jpg
give beach,office docs/a.jpg
give office,place:cn:hefei,rating=4 docs/report.txt
