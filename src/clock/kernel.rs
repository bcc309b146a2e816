//! What the kernel says of the wall clock: whether something that knows the time (chrony, systemd-timesyncd, ntpd, PTP)
//! keeps it right.

/// Whether the wall clock is synchronised; none when the kernel does not say (a container, or a filter of system calls).
///
/// As `timedatectl` has it: adjtimex(2), and the flag that those set who set the clock.
#[expect(unsafe_code, reason = "no crate here has this call; it reads into a struct of its own and changes nothing")]
pub(super) fn synchronised() -> Option<bool> {
    // SAFETY: all fields are numbers, for which zero is a value; `modes` 0 asks and sets nothing.
    let (state, asked) = unsafe {
        let mut asked: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&mut asked), asked)
    };
    (state >= 0).then_some(state != libc::TIME_ERROR && asked.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_changes_nothing() {
        assert_eq!(synchronised(), synchronised());
    }
}
