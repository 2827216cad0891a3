//! Runs a target with pseudo-random bytes, without a fuzzer: `soak TARGET FIRST COUNT`.
fn main() {
    let args: Vec<_> = std::env::args().collect();
    let (first, count): (u64, u64) = (args[2].parse().unwrap(), args[3].parse().unwrap());
    let run = match &*args[1] {
        "schedule" => ensue_fuzz::schedule,
        "as_completed" => ensue_fuzz::as_completed,
        "inputs" => ensue_fuzz::inputs,
        "keys" => ensue_fuzz::keys,
        _ => ensue_fuzz::panics,
    };
    let mut bad = std::collections::BTreeMap::<String, (u64, u64)>::new();
    let start = std::time::Instant::now();
    for n in first..first + count {
        let mut s = n.wrapping_mul(0x9E3779B97F4A7C15) ^ 0x1234567;
        let len = 40 + (n % 500) as usize;
        let data: Vec<u8> = (0..len).map(|_| { s ^= s << 13; s ^= s >> 7; s ^= s << 17; (s >> 24) as u8 }).collect();
        if count == 1 { run(&data); continue; }
        if let Err(p) = std::panic::catch_unwind(|| run(&data)) {
            let t = p.downcast_ref::<String>().cloned().or(p.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default();
            let line: String = t.lines().next().unwrap_or("").chars().map(|c| if c.is_ascii_digit() {'#'} else {c}).collect();
            let e = bad.entry(line).or_insert((0, n)); e.0 += 1;
        }
    }
    println!("{} runs in {:?}", count, start.elapsed());
    let mut bad: Vec<_> = bad.into_iter().collect(); bad.sort_by_key(|(_, (c, _))| std::cmp::Reverse(*c));
    for (l, (c, n)) in bad.into_iter().take(25) { println!("{c:6} first {n}: {l}"); }
}
