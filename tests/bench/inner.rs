//! The inner loops, measured by Criterion: `cd tests/bench && cargo bench`, or `cargo bench -- refs` for some of them.
//!
//! The figures serve one purpose: to compare those before and after a change. scripts/bench.sh measures the program
//! against git.

use artifacts_http_backend::odb::inflate::Inflater;
use artifacts_http_backend::odb::{Objects, delta};
use artifacts_http_backend::pack::deflate::Levels;
use artifacts_http_backend::pack::select::{Request, select};
use artifacts_http_backend::pack::write::{PackOptions, write};
use artifacts_http_backend::pktline::{self, PacketReader};
use artifacts_http_backend::refs::{Format, RefStore};
use artifacts_http_backend::stream::Silent;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gix_hash::{Kind, ObjectId};
use std::fmt::Write;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A bare repository that is removed when dropped.
struct Repo(PathBuf);

impl Drop for Repo {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Repo {
    /// 2,000 commits of a hundred files, in one pack with deltas.
    fn new() -> Self {
        let repo = Repo(std::env::temp_dir().join(format!("artifacts-bench-{}", std::process::id())));
        std::fs::create_dir_all(&repo.0).expect("a directory can be made");
        repo.git(&["init", "-q", "--bare", "-b", "main", "."], "");
        let mut stream = String::new();
        for commit in 0..2000_usize {
            let time = 1_600_000_000 + commit;
            write!(stream, "commit refs/heads/main\ncommitter C <c@example.com> {time} +0000\ndata 1\nc\n")
                .expect("text");
            for file in if commit == 0 { 0..100 } else { commit * 7 % 100..commit * 7 % 100 + 1 } {
                let text: String =
                    (0..60).map(|line| format!("{} of {file}\n", line * 31 + commit * (line % 7 / 6))).collect();
                write!(stream, "M 644 inline d{}/f{file}\ndata {}\n{text}\n", file % 9, text.len()).expect("text");
            }
        }
        repo.git(&["fast-import", "--quiet"], &stream);
        repo.git(&["repack", "-adfq", "--no-write-bitmap-index"], "");
        repo
    }

    fn git(&self, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new("git");
        command.current_dir(&self.0).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")]);
        let mut child = command.spawn().expect("git runs");
        std::io::Write::write_all(&mut child.stdin.take().expect("it is piped"), input.as_bytes()).expect("git reads");
        let output = child.wait_with_output().expect("git ends");
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn id(&self, revision: &str) -> ObjectId {
        ObjectId::from_hex(self.git(&["rev-parse", revision], "").as_bytes()).expect("git knows it")
    }

    fn objects(&self) -> Objects {
        Objects::new(Kind::Sha1, vec![self.0.join("objects")])
    }
}

fn packets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("packets");
    let line = format!("{} refs/heads/some-branch/of-usual-length\n", "0123456789".repeat(4));
    group.throughput(Throughput::Elements(1000));
    group.bench_function("append", |bench| {
        let mut list = Vec::new();
        bench.iter(|| {
            list.clear();
            for _ in 0..1000 {
                pktline::append(&mut list, |packet| packet.extend_from_slice(black_box(line.as_bytes())))
                    .expect("short");
            }
            list.len()
        });
    });
    let mut list = Vec::new();
    (0..1000)
        .for_each(|_| pktline::append(&mut list, |packet| packet.extend_from_slice(line.as_bytes())).expect("short"));
    pktline::flush(&mut list).expect("memory takes all");
    group.bench_function("read", |bench| {
        bench.iter(|| {
            let mut input = list.as_slice();
            let mut reader = PacketReader::new(&mut input);
            let mut packets = 0;
            while let Ok(Some(pktline::Packet::Data(_))) = reader.next() {
                packets += 1;
            }
            assert_eq!(packets, 1000);
        });
    });
}

fn refs(criterion: &mut Criterion) {
    let repo = Repo(std::env::temp_dir().join(format!("artifacts-bench-refs-{}", std::process::id())));
    std::fs::create_dir_all(repo.0.join("refs")).expect("a directory can be made");
    let mut packed = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    for number in 0..20_000 {
        writeln!(packed, "0123456789abcdef0123456789abcdef01234567 refs/heads/team/branch-{number:06}").expect("text");
    }
    std::fs::write(repo.0.join("packed-refs"), packed).expect("scratch can be written");
    let store = RefStore::new(Format::Files, repo.0.clone(), repo.0.clone(), Kind::Sha1);
    let mut group = criterion.benchmark_group("refs");
    group.throughput(Throughput::Elements(20_000));
    group.bench_function("list", |bench| {
        bench.iter(|| {
            let mut bytes = 0;
            let mut each = |row: &artifacts_http_backend::refs::Row<'_>| {
                bytes += row.name.len();
                Ok(())
            };
            store.for_each(&[], &mut each).expect("it can be read");
            bytes
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("find one", |bench| {
        bench.iter(|| store.resolve("refs/heads/team/branch-012345".into()).expect("it can be read"));
    });
}

fn deltas(criterion: &mut Criterion) {
    let base: Vec<u8> = (0..20_000).flat_map(|line| format!("line {line} of the base\n").into_bytes()).collect();
    // A copy of 200 bytes and an insertion of three, repeated.
    let mut changed = vec![];
    let size = 203 * 1000;
    let mut announced = |mut size: usize| {
        while size >= 0x80 {
            changed.push(size as u8 | 0x80);
            size >>= 7;
        }
        changed.push(size as u8);
    };
    announced(base.len());
    announced(size);
    for piece in 0..1000_u32 {
        let [a, b, c, _] = (piece * 331 % 400_000).to_le_bytes();
        changed.extend([0x97, a, b, c, 200, 3, b'x', b'y', b'z']);
    }
    let mut group = criterion.benchmark_group("deltas");
    group.throughput(Throughput::Bytes(size as u64));
    let mut out = Vec::new();
    group.bench_function("apply", |bench| {
        bench.iter(|| delta::apply(&base, &changed, u64::MAX, &mut out).expect("it fits"));
    });
    let mut stream = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut stream, &base).expect("memory takes all");
    let stream = stream.finish().expect("memory takes all");
    let mut inflater = Inflater::new();
    group.throughput(Throughput::Bytes(base.len() as u64));
    group.bench_function("inflate", |bench| {
        bench.iter(|| inflater.whole(&mut stream.as_slice(), 0, base.len() as u64, &mut out).expect("it is sound"));
    });
}

fn packs(criterion: &mut Criterion) {
    let repo = Repo::new();
    let (tip, before) = (repo.id("main"), repo.id("main~100"));
    let mut group = criterion.benchmark_group("packs");
    group.sample_size(20);
    for (name, common) in [("everything", &[][..]), ("a hundred commits", &[before][..])] {
        let request = Request { wants: &[tip], common, thin: true, ..Request::default() };
        group.bench_function(format!("select {name}"), |bench| {
            let fresh = || repo.objects();
            bench.iter_batched(
                fresh,
                |objects| select(&objects, &request, &mut Silent).expect("sound"),
                BatchSize::SmallInput,
            );
        });
        let objects = repo.objects();
        let selection = select(&objects, &request, &mut Silent).expect("it is sound");
        for threads in [1, 0] {
            let options =
                PackOptions { thin: true, ofs_delta: true, levels: Levels::all(6), threads, memory: 64 << 20 };
            let how = if threads == 1 { "alone" } else { "on all cores" };
            group.bench_function(format!("write {name} {how}"), |bench| {
                let mut out = Vec::new();
                bench.iter(|| {
                    out.clear();
                    write(&selection, &objects, &options, &mut out).expect("it is sound")
                });
            });
        }
    }
}

criterion_group!(inner, packets, refs, deltas, packs);
criterion_main!(inner);
