package mem

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMapSecret has key memory locked where that is allowed, and not locked,
// but kept out of core files all the same, where it is not.
func TestMapSecret(t *testing.T) {
	if raceBuild {
		t.Skip("regions come from the heap under the race detector")
	}
	r, err := MapSecret(8192, Options{SmallPages: true})
	if err != nil {
		t.Fatal(err)
	}
	if f := vmFlags(t, r.Addr()); r.Locked() != strings.Contains(f, " lo ") || !strings.Contains(f, " dd ") || !strings.Contains(f, " wf ") {
		t.Errorf("locked %v: %s", r.Locked(), f)
	}
	_ = r.Unmap()

	// What a process without the capability sees, on a thread of its own, which
	// ends with the goroutine.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- forbidLocking()
		<-done
		r, err := MapSecret(8192, Options{})
		switch {
		case err != nil:
			t.Errorf("where locking is forbidden: %v", err)
		case r.Locked():
			t.Error("it calls itself locked")
		default:
			if f := vmFlags(t, r.Addr()); strings.Contains(f, " lo ") || !strings.Contains(f, " dd ") {
				t.Errorf("not locked: %s", f)
			}
			_ = r.Unmap()
		}
		if _, err := Map(8192, Options{Lock: true}); !errors.Is(err, ErrLock) {
			t.Errorf("Lock where it is forbidden: %v", err)
		}
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	done <- nil
	<-done
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		t.Fatal(err)
	}
}

// forbidLocking takes CAP_IPC_LOCK from this thread.
func forbidLocking() error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var c [2]unix.CapUserData
	if err := unix.Capget(&h, &c[0]); err != nil {
		return err
	}
	c[0].Effective &^= 1 << unix.CAP_IPC_LOCK
	return unix.Capset(&h, &c[0])
}
