//! Where a plan is laid out for the process that is cloned for it: a few pages in place of the cloner's heap.
//!
//! A clone copies each page of its parent's memory that was written, and both sides then pay for each that they write.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::CStr;

use seccompiler::sock_filter;

use super::{Plan, Walls};

/// The largest order, each of its texts with a pointer to it and a NUL.
const BYTES: usize = 512 * 1024;

/// Memory of its own mapping, used from its start.
pub(crate) struct Desk {
    start: *mut u8,
    used: Cell<usize>,
    /// What all plans share.
    filter: *const [sock_filter],
    kept: usize,
}

impl Desk {
    /// With the system call filter of all plans on it. `None`: the host has no memory.
    pub fn new(filter: &[sock_filter]) -> Option<Desk> {
        let (private, none) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, std::ptr::null_mut());
        // SAFETY: a new mapping, touched in this room alone.
        let start = unsafe { libc::mmap(none, BYTES, libc::PROT_READ | libc::PROT_WRITE, private, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        // Alone: what is told of it to the kernel is told of no neighbour.
        // SAFETY: changes nothing but what a core file would hold.
        unsafe { libc::madvise(start, BYTES, libc::MADV_DONTDUMP) };
        let mut desk = Desk { start: start.cast(), used: Cell::new(0), filter: &raw const *filter, kept: 0 };
        let filter: *const [sock_filter] = desk.put(filter)?;
        desk.filter = filter;
        desk.kept = desk.used.get().next_multiple_of(size_of::<usize>());
        Some(desk)
    }

    /// Whether it is in this range of memory: where it begins, and its bytes.
    pub fn is_in(&self, (start, bytes): (usize, usize)) -> bool {
        (start..start + bytes).contains(&(self.start as usize))
    }

    /// The same plan with all that it points to on the desk, in place of the plan before. `None`: it has no room. Of the memory
    /// that a supervisor gives up, nothing is left.
    ///
    /// # Safety
    /// The plan that was laid out before is used no more. What this one points to is there.
    pub unsafe fn lay_out<'a>(&'a self, plan: &Plan<'a>) -> Option<Plan<'a>> {
        self.used.set(self.kept);
        let walls = match &plan.walls {
            None => None,
            Some(walls) => Some(Walls {
                host_name: self.put(walls.host_name)?,
                maps: [self.put(walls.maps[0])?, self.put(walls.maps[1])?],
                ..*walls
            }),
        };
        Some(Plan {
            walls,
            entrances: self.put(plan.entrances)?,
            resource_limits: self.put(plan.resource_limits)?,
            // SAFETY: put there when the desk was made, and never overwritten.
            filter: unsafe { &*self.filter },
            working_directory: self.put_text(plan.working_directory)?,
            programs: self.put_texts(plan.programs)?,
            arguments: self.put_texts(plan.arguments)?,
            environment: self.put_texts(plan.environment)?,
            companions: self.put_texts(plan.companions)?,
            companion_environment: self.put_texts(plan.companion_environment)?,
            companion_outputs: self.put(plan.companion_outputs)?,
            spare: &[],
            ..*plan
        })
    }

    /// Items are plain data.
    fn put<T>(&self, items: &[T]) -> Option<&[T]> {
        let at = self.used.get().next_multiple_of(align_of::<T>());
        let end = at.checked_add(size_of_val(items)).filter(|end| *end <= BYTES)?;
        self.used.set(end);
        // SAFETY: these bytes are ours, aligned, and nobody else's until the next plan is laid out.
        unsafe {
            let place = self.start.add(at).cast::<T>();
            std::ptr::copy_nonoverlapping(items.as_ptr(), place, items.len());
            Some(std::slice::from_raw_parts(place, items.len()))
        }
    }

    fn put_text(&self, text: &CStr) -> Option<&CStr> {
        CStr::from_bytes_with_nul(self.put(text.to_bytes_with_nul())?).ok()
    }

    /// Texts by their pointers, of which the last may be null.
    fn put_texts(&self, texts: &[*const libc::c_char]) -> Option<&[*const libc::c_char]> {
        let mut pointers = Vec::with_capacity(texts.len());
        for text in texts {
            // SAFETY: the pointers of a plan are to C strings, or null.
            let copy = (!text.is_null()).then(|| self.put_text(unsafe { CStr::from_ptr(*text) }));
            pointers.push(copy.map_or(Some(std::ptr::null()), |copy| copy.map(CStr::as_ptr))?);
        }
        self.put(&pointers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With these arguments; all else is small.
    fn plan<'a>(arguments: &'a [*const libc::c_char], filter: &'a [sock_filter]) -> Plan<'a> {
        Plan {
            walls: Some(Walls {
                temporary: 4,
                host_name: b"host",
                maps: [b"993 7 1", b"990 7 1"],
                user_namespace: None,
                in_control_group: true,
                landlock: 3,
                kernel_addresses: false,
            }),
            oom_score: b"500",
            proc: 5,
            status: 6,
            null: 7,
            output: 8,
            bell: -1,
            entrances: &[9, 10],
            identity: Some((993, 990)),
            resource_limits: &[(7, 1_024, u64::MAX)],
            filter,
            working_directory: c"/var/task",
            programs: &arguments[..1],
            arguments,
            environment: &[],
            companions: &[],
            companion_environment: &[],
            companion_outputs: &[],
            spare: &[(1, 2)],
            small: None,
        }
    }

    fn texts(pointers: &[*const libc::c_char]) -> Vec<&CStr> {
        // SAFETY: a null after C strings.
        pointers
            .iter()
            .take_while(|text| !text.is_null())
            .map(|text| unsafe { CStr::from_ptr(*text) })
            .collect()
    }

    #[test]
    fn a_plan_is_whole_and_all_of_it_on_the_desk() {
        let filter = crate::seccomp::compile();
        let desk = Desk::new(&filter).unwrap();
        // Longer first: nothing of it may be left in the second.
        for words in [["/var/task/a program", "first", "second"], ["/bin/x", "", "z"]] {
            let strings = words.map(|word| std::ffi::CString::new(word).unwrap());
            let mut arguments: Vec<_> = strings.iter().map(|text| text.as_ptr()).collect();
            arguments.push(std::ptr::null());
            let given = plan(&arguments, &filter);
            // SAFETY: the plan before has gone out of scope.
            let laid_out = unsafe { desk.lay_out(&given) }.unwrap();
            let is_on_it = |place: usize| (desk.start as usize..desk.start as usize + BYTES).contains(&place);
            assert!(
                is_on_it(laid_out.arguments.as_ptr() as usize) && is_on_it(laid_out.filter.as_ptr() as usize)
            );
            let found = texts(laid_out.arguments);
            assert!(found.iter().all(|text| is_on_it(text.as_ptr() as usize)));
            assert_eq!(
                found,
                words.map(|word| std::ffi::CString::new(word).unwrap()).each_ref().map(|word| &**word)
            );
            assert_eq!((texts(laid_out.programs), laid_out.arguments.len()), (found[..1].to_vec(), 4));
            let walls = laid_out.walls.unwrap();
            assert_eq!((walls.host_name, walls.maps), (&b"host"[..], [&b"993 7 1"[..], b"990 7 1"]));
            assert_eq!(
                (laid_out.entrances, laid_out.resource_limits),
                (&[9, 10][..], &[(7, 1_024, u64::MAX)][..])
            );
            assert_eq!(laid_out.working_directory, c"/var/task");
            assert!(laid_out.filter.len() == filter.len() && laid_out.filter.as_ptr() != filter.as_ptr());
            let same =
                |(one, other): (&sock_filter, &sock_filter)| one.code == other.code && one.k == other.k;
            assert!(laid_out.filter.iter().zip(&filter).all(same), "the filter stays");
        }
    }

    #[test]
    fn a_plan_that_is_too_large_is_not_laid_out() {
        let desk = Desk::new(&[]).unwrap();
        for (bytes, fits) in [(BYTES / 2, true), (BYTES + 4_096, false), (BYTES / 4, true)] {
            let text = std::ffi::CString::new(vec![b'a'; bytes - 2_048]).unwrap();
            let arguments = [c"p".as_ptr(), text.as_ptr(), std::ptr::null()];
            // SAFETY: none was laid out before that is used.
            assert_eq!(unsafe { desk.lay_out(&plan(&arguments, &[])) }.is_some(), fits, "{bytes} bytes");
        }
        assert!(desk.is_in((desk.start as usize, 1)) && !desk.is_in((0, 4_096)));
    }
}
