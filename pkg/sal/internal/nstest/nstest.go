// Package nstest gives tests network namespaces that are gone afterwards.
package nstest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var count atomic.Int32

// NS is a network namespace by name.
type NS struct {
	t    testing.TB
	Name string
}

// New makes a namespace with the loopback up. It skips the test without root,
// unless in CI.
func New(t testing.TB) *NS {
	t.Helper()
	Need(t, "ip")
	if os.Geteuid() != 0 {
		Absent(t, "root")
	}
	sweep.Do(removeLeft)
	n := &NS{t, fmt.Sprintf("vrt%d-%d", os.Getpid(), count.Add(1))}
	run(t, "ip", "netns", "add", n.Name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.Name).Run() })
	n.Run("ip", "link", "set", "lo", "up")
	return n
}

// Enter gives a namespace that another process's test has made.
func Enter(t testing.TB, name string) *NS { return &NS{t, name} }

var sweep sync.Once

// removeLeft removes the namespaces of test processes that are no more: one
// that is killed, or out of time, cleans nothing up.
func removeLeft() {
	names, _ := filepath.Glob("/run/netns/vrt*-*")
	for _, f := range names {
		var pid, n int
		if _, err := fmt.Sscanf(filepath.Base(f), "vrt%d-%d", &pid, &n); err != nil || unix.Kill(pid, 0) != unix.ESRCH {
			continue
		}
		_ = exec.Command("ip", "netns", "del", filepath.Base(f)).Run()
	}
}

// Absent skips a test for want of something, and fails it in CI, where
// everything must be there.
func Absent(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("needs %s", what)
}

// Need calls Absent unless a program is installed.
func Need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		Absent(t, program)
	}
}

// patience is how long a program may take: a connection that does not come
// about shall fail its test, not hang it.
const patience = 60 * time.Second

func run(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Run runs a program in the namespace and gives its output; the test fails if
// it fails.
func (n *NS) Run(args ...string) string {
	n.t.Helper()
	return run(n.t, append([]string{"ip", "netns", "exec", n.Name}, args...)...)
}

// Command is a program in the namespace, not yet started. It ends with the
// test: as a child of its own, not of ip.
func (n *NS) Command(args ...string) *exec.Cmd {
	c := exec.Command("ip", append([]string{"netns", "exec", n.Name}, args...)...)
	return c
}

// Start starts a program that is killed at the test's end at the latest. (ip
// netns exec becomes the program, so the process is the program's own.)
func (n *NS) Start(args ...string) *exec.Cmd {
	n.t.Helper()
	c := n.Command(args...)
	if err := c.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

// Do runs f on a thread inside the namespace; sockets that f opens stay there.
// f must not start goroutines that count on it.
func (n *NS) Do(f func()) {
	n.t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+n.Name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err != nil {
			done <- err
			return
		}
		defer func() { done <- nil }()
		f()
	}()
	if err := <-done; err != nil {
		n.t.Fatalf("entering %s: %v", n.Name, err)
	}
}

// Veth makes a pair of devices, a in n and b in m, both up. IPv6 is off on a:
// the kernel shall not speak beside the router.
func (n *NS) Veth(a string, m *NS, b string) {
	n.t.Helper()
	run(n.t, "ip", "-n", n.Name, "link", "add", "name", a, "type", "veth", "peer", "name", b, "netns", m.Name)
	n.Quiet(a)
	n.Run("ip", "link", "set", "dev", a, "up")
	m.Run("ip", "link", "set", "dev", b, "up")
}

// Quiet turns IPv6 off on a device.
func (n *NS) Quiet(dev string) {
	n.t.Helper()
	n.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/"+dev+"/disable_ipv6")
}
