package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// secure keeps keys inside the process: no core file, no debugger of the same
// user, and no swap if wanted.
func secure(lock bool, log *slog.Logger) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbidding core files: %w", err)
	}
	if !lock {
		return nil
	}
	// On fault: tables are mapped for the largest size and mostly untouched.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("locking memory (RLIMIT_MEMLOCK or CAP_IPC_LOCK): %w", err)
	}
	log.Info("memory is locked")
	return nil
}

// lockDir takes the state directory for this process alone: two data planes
// over one would use sequence numbers twice. The lock ends with the process,
// however it ends.
func lockDir(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("state directory %s: another fastpathd uses it", dir)
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// usable are the processors that the process may use.
func usable() (cpus []int, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("processors: %w", err)
	}
	for i := range 64 * len(set) {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus, nil
}

// reserve keeps all threads off the workers' processors, the workers included,
// which choose their own afterwards. Threads that come later inherit it from the
// ones here.
func reserve(usable, cpus []int) error {
	var rest unix.CPUSet
	for _, c := range usable {
		rest.Set(c)
	}
	for _, c := range cpus {
		if !rest.IsSet(c) {
			return fmt.Errorf("processor %d is not there or not ours", c)
		}
		rest.Clear(c)
	}
	if rest.Count() == 0 { // workers everywhere: the rest shares with them
		for _, c := range usable {
			rest.Set(c)
		}
	}
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(cpus)+1))
	return threads(func(id int) error { return unix.SchedSetaffinity(id, &rest) })
}

// prefer gives the process a nice value, below 0 for more than its fair share
// of the processors: packets that wait for one are lost in the end. It is no
// real-time priority, which would stop the machine when a worker never sleeps.
func prefer(nice int, log *slog.Logger) {
	err := threads(func(id int) error { return unix.Setpriority(unix.PRIO_PROCESS, id, nice) })
	// Where the kernel groups processes by session (sched(7), autogroup), nice
	// values count within a session only; the session has one of its own. Leave
	// it alone where it is somebody else's.
	if sid, e := unix.Getsid(0); err == nil && e == nil && sid == os.Getpid() {
		err = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	}
	if err != nil { // CAP_SYS_NICE is missing
		log.Info("the priority stays as it is", "nice", nice, "err", err)
	}
}

// threads does something to every thread there is, until no new one shows up:
// one that is being started meanwhile by a thread that was not reached yet
// would inherit nothing. Threads to come do.
func threads(f func(id int) error) error {
	done := map[int]bool{}
	for more := true; more; {
		more = false
		l, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("threads: %w", err)
		}
		for _, t := range l {
			id, err := strconv.Atoi(t.Name())
			if err != nil || done[id] {
				continue
			}
			if err := f(id); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("thread %d: %w", id, err)
			}
			done[id], more = true, true
		}
	}
	return nil
}

// writePID writes the process id in one step.
func writePID(path string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return fmt.Errorf("process id: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("process id: %w", err)
	}
	return nil
}
