//! Writes the seeds into the corpus, beside what fuzzing found.

fn main() -> std::io::Result<()> {
    for target in nearmost_fuzz::TARGETS {
        std::fs::create_dir_all(target.corpus())?;
        for entry in std::fs::read_dir(target.corpus())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-")) {
                std::fs::remove_file(path)?;
            }
        }
    }
    for seed in nearmost_fuzz::seeds::all() {
        if let Some(target) = nearmost_fuzz::Target::named(seed.target) {
            std::fs::write(target.corpus().join(format!("seed-{}", seed.name)), seed.bytes)?;
        }
    }
    Ok(())
}
