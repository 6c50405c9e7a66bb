// Package lab makes small networks out of network namespaces, for the demo and
// for end-to-end tests: hosts, links, vRouters, captures. Everything a Lab
// made goes away with Close, whatever happened before: processes are ended by
// their own ids, namespaces by their own names. Traffic stays inside.
package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Lab owns namespaces, processes and a directory for their files.
type Lab struct {
	// Dir holds logs, captures, sockets and state; it goes with Close unless
	// Keep is set.
	Dir  string
	Keep bool

	id    string
	mu    sync.Mutex
	ns    []*NS
	procs []*Proc
	// guarded tells the guard that there is nothing left to do.
	guarded func()
}

// Usable tells why no Lab can be made here, nil when one can.
func Usable() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("the program ip is missing (Debian: iproute2)")
	}
	return nil
}

// New makes an empty Lab, and removes the namespaces of labs whose process is
// gone (a test that was killed).
func New() (*Lab, error) {
	if err := Usable(); err != nil {
		return nil, err
	}
	sweep()
	dir, err := os.MkdirTemp("", "vrouter-lab-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, id: fmt.Sprintf("vr%d-%s", os.Getpid(), strconv.FormatInt(time.Now().UnixNano()%46656, 36))}
	if err := l.guard(); err != nil {
		return nil, fmt.Errorf("starting the guard of the lab: %w", err)
	}
	return l, nil
}

// guard starts a shell that waits for the end of this process, or of the lab,
// and then ends what is left in the lab's namespaces: a test that was killed,
// by its time limit for one, leaves nothing behind either.
func (l *Lab) guard() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	c := exec.Command("sh", "-c", `read -r x
[ "$x" = done ] && exit
for n in $(ip netns list | grep -o "^$1-[^ ]*"); do
  for i in 1 2 3 4 5; do kill -9 $(ip netns pids "$n") || break; sleep 0.1; done
  ip netns delete "$n"
done
rm -rf "$2"`, "sh", l.id, l.Dir)
	c.Stdin = r
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // signals to our group are not for it
	if err := c.Start(); err != nil {
		w.Close()
		return err
	}
	l.guarded = func() {
		_, _ = w.WriteString("done\n")
		w.Close()
		_ = c.Wait()
	}
	return nil
}

var ours = regexp.MustCompile(`(?m)^vr(\d+)-\S+`)

func sweep() {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for _, m := range ours.FindAllSubmatch(out, -1) {
		pid, _ := strconv.Atoi(string(m[1]))
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			(&NS{Name: string(m[0])}).killAll()
			_ = exec.Command("ip", "netns", "delete", string(m[0])).Run()
		}
	}
}

// Close ends all processes, then removes all namespaces and the directory. It
// tells what could not be removed.
func (l *Lab) Close() error {
	l.mu.Lock()
	procs, ns, guarded := l.procs, l.ns, l.guarded
	l.procs, l.ns, l.guarded = nil, nil, nil
	l.mu.Unlock()
	if guarded != nil {
		defer guarded()
	}
	var errs []error
	for i := len(procs) - 1; i >= 0; i-- {
		procs[i].Kill()
	}
	for _, n := range ns {
		n.killAll()
		if out, err := exec.Command("ip", "netns", "delete", n.Name).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("removing namespace %s: %v: %s", n.Name, err, out))
		}
	}
	if !l.Keep {
		errs = append(errs, os.RemoveAll(l.Dir))
	}
	return errors.Join(errs...)
}

// Path names a file in the lab's directory.
func (l *Lab) Path(name ...string) string { return filepath.Join(append([]string{l.Dir}, name...)...) }

// NS is one network namespace.
type NS struct {
	Name string // as ip netns knows it
	lab  *Lab
}

// NS makes a namespace with its loopback up. quiet switches IPv6 of the kernel
// off in it: for vRouters, whose kernel must not answer in their place.
func (l *Lab) NS(name string, quiet bool) (*NS, error) {
	n := &NS{Name: l.id + "-" + name, lab: l}
	if out, err := exec.Command("ip", "netns", "add", n.Name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making namespace %s: %v: %s", n.Name, err, out)
	}
	l.mu.Lock()
	l.ns = append(l.ns, n)
	l.mu.Unlock()
	v6 := "0"
	if quiet {
		v6 = "1"
	}
	for _, c := range [][]string{
		{"sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=" + v6, "net.ipv6.conf.default.disable_ipv6=" + v6,
			"net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.router_solicitations=0"},
		{"ip", "link", "set", "lo", "up"},
	} {
		if _, err := n.Run(c...); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// killAll ends what still runs in the namespace.
func (n *NS) killAll() {
	for range 50 {
		out, _ := exec.Command("ip", "netns", "pids", n.Name).Output()
		f := strings.Fields(string(out))
		if len(f) == 0 {
			return
		}
		for _, p := range f {
			if pid, err := strconv.Atoi(p); err == nil && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Command prepares a command in the namespace. The process it starts is the
// command itself, so signals reach it.
func (n *NS) Command(args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name}, args...)...)
}

// Run runs a command to its end, at most a minute, and gives its output.
func (n *NS) Run(args ...string) (string, error) { return n.RunFor(time.Minute, args...) }

// RunFor is Run with a time limit of its own.
func (n *NS) RunFor(limit time.Duration, args ...string) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.Name}, args...)...)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Do runs f on a thread that is inside the namespace: sockets it opens belong
// there for as long as they are open.
func (n *NS) Do(f func() error) error {
	done := make(chan error)
	go func() {
		// The thread ends with the goroutine: it is never unlocked, so nobody
		// else runs in the wrong namespace.
		runtime.LockOSThread()
		fd, err := os.Open("/var/run/netns/" + n.Name)
		if err == nil {
			err = unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET)
			fd.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Link joins two namespaces by a veth pair, both ends up. MAC addresses are
// set when given ("" leaves the kernel's choice).
func (l *Lab) Link(a *NS, ifA string, b *NS, ifB string) error {
	for _, c := range [][]string{
		{"link", "add", ifA, "netns", a.Name, "type", "veth", "peer", "name", ifB, "netns", b.Name},
		{"-n", a.Name, "link", "set", "dev", ifA, "up"},
		{"-n", b.Name, "link", "set", "dev", ifB, "up"},
	} {
		if out, err := exec.Command("ip", c...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %v: %s", strings.Join(c, " "), err, out)
		}
	}
	return nil
}

// IP runs ip(8) in the namespace for each line of a script.
func (n *NS) IP(script string) error {
	for _, line := range strings.Split(script, "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			if out, err := exec.Command("ip", append([]string{"-n", n.Name}, f...)...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %s: %v: %s", line, err, out)
			}
		}
	}
	return nil
}

// Proc is a process in the background.
type Proc struct {
	*exec.Cmd
	Log  string // file with its output
	done chan struct{}
	err  error
}

// Start runs a command in the background; its output goes to a log file.
func (n *NS) Start(name string, args ...string) (*Proc, error) {
	log := n.lab.Path(name + ".log")
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c := n.Command(args...)
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		return nil, err
	}
	p := &Proc{Cmd: c, Log: log, done: make(chan struct{})}
	go func() {
		p.err = c.Wait()
		close(p.done)
	}()
	n.lab.mu.Lock()
	n.lab.procs = append(n.lab.procs, p)
	n.lab.mu.Unlock()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Kill ends the process at once (kill -9) and waits for its end.
func (p *Proc) Kill() { p.end(syscall.SIGKILL) }

// Stop asks the process to end, and kills it after five seconds.
func (p *Proc) Stop() error {
	if err := p.Process.Signal(syscall.SIGTERM); err == nil {
		select {
		case <-p.done:
			return p.err
		case <-time.After(5 * time.Second):
		}
	}
	p.Kill()
	return nil
}

// Interrupt asks the process to end and waits (tcpdump, iperf3).
func (p *Proc) Interrupt() {
	_ = p.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		p.Kill()
	}
}

func (p *Proc) end(s syscall.Signal) {
	_ = p.Process.Signal(s)
	<-p.done
}

// Wait waits until the process ends, at most so long.
func (p *Proc) Wait(limit time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		return fmt.Errorf("%s still runs after %v", p.Path, limit)
	}
}

// Output is what the process has written so far.
func (p *Proc) Output() string {
	b, _ := os.ReadFile(p.Log)
	return string(b)
}

// Until waits for something to become true, at most so long.
func Until(limit time.Duration, what string, ok func() bool) error {
	for end := time.Now().Add(limit); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %v still not: %s", limit, what)
		}
	}
}

// Capture records the packets of an interface.
type Capture struct {
	File string
	proc *Proc
}

// Capture starts tcpdump on an interface and waits until it listens.
func (n *NS) Capture(name, iface string, filter ...string) (*Capture, error) {
	c := &Capture{File: n.lab.Path(name + ".pcap")}
	args := append([]string{"tcpdump", "-i", iface, "-n", "-s", "0", "-U", "-B", "16384", "--immediate-mode", "-Z", "root", "-w", c.File}, filter...)
	p, err := n.Start(name+"-tcpdump", args...)
	if err != nil {
		return nil, err
	}
	c.proc = p
	return c, Until(5*time.Second, "tcpdump listens on "+iface, func() bool { return strings.Contains(p.Output(), "listening on") })
}

// Stop ends the capture; the file is whole afterwards.
func (c *Capture) Stop() {
	time.Sleep(100 * time.Millisecond) // what is on the way still counts
	c.proc.Interrupt()
}

// Count tells how many captured packets match a filter of tcpdump.
func (c *Capture) Count(filter string) (int, error) {
	out, err := exec.Command("tcpdump", "-n", "-r", c.File, filter).Output()
	if err != nil {
		return 0, fmt.Errorf("reading %s: %w", c.File, err)
	}
	return bytes.Count(out, []byte("\n")), nil
}
