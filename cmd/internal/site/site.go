// Package site builds the network of the demo and of the end-to-end tests: two
// sites with a host and a vRouter each, joined by a WAN that can be tapped.
//
//	host-a ── lan0 [vr-a] wan0 ── wan ── wan0 [vr-b] lan0 ── host-b
//	10.1.0.2                    (tap)                      10.2.0.2
//	2001:db8:1::2                                     2001:db8:2::2
package site

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"vrouter/cmd/internal/lab"
)

// Pair is the two sites.
type Pair struct {
	Lab          *lab.Lab
	HostA, HostB *lab.NS
	Wan          *lab.NS // a bridge, so that everything on the WAN can be seen
	A, B         *VRouter
}

// VRouter is a vRouter in a namespace of its own.
type VRouter struct {
	NS     *lab.NS
	Name   string
	Dir    string // state, sockets, logs
	Socket string // of NETCONF, for vrouterctl
	Bin    string
	Args   []string // more arguments for vrouterd
	Proc   *lab.Proc

	lab *lab.Lab
}

// New makes the network; the vRouters are not started. bin is the directory
// with the vRouter's commands.
func New(l *lab.Lab, bin string) (*Pair, error) {
	p := &Pair{Lab: l}
	var err error
	ns := func(name string, quiet bool) *lab.NS {
		if err != nil {
			return nil
		}
		var n *lab.NS
		n, err = l.NS(name, quiet)
		return n
	}
	p.HostA, p.HostB = ns("host-a", false), ns("host-b", false)
	p.Wan = ns("wan", true)
	a, b := ns("vr-a", true), ns("vr-b", true)
	if err != nil {
		return nil, err
	}
	for _, s := range []func() error{
		func() error { return l.Link(p.HostA, "eth0", a, "lan0") },
		func() error { return l.Link(p.HostB, "eth0", b, "lan0") },
		func() error { return l.Link(a, "wan0", p.Wan, "a") },
		func() error { return l.Link(b, "wan0", p.Wan, "b") },
		func() error {
			return p.Wan.IP("link add wan type bridge mcast_snooping 0\n link set dev a master wan\n link set dev b master wan\n link set dev wan up")
		},
		func() error { return host(p.HostA, "10.1.0", "2001:db8:1") },
		func() error { return host(p.HostB, "10.2.0", "2001:db8:2") },
	} {
		if err := s(); err != nil {
			return nil, err
		}
	}
	p.A, p.B = Single(l, a, "vr-a", bin), Single(l, b, "vr-b", bin)
	return p, nil
}

func host(n *lab.NS, v4, v6 string) error {
	return n.IP(fmt.Sprintf("addr add %s.2/24 dev eth0\n addr add %s::2/64 dev eth0 nodad\n route add default via %s.1\n route add default via %s::1", v4, v6, v4, v6))
}

// Single is one vRouter in a namespace that is there.
func Single(l *lab.Lab, n *lab.NS, name, bin string) *VRouter {
	dir := l.Path(name)
	return &VRouter{NS: n, Name: name, Dir: dir, Socket: filepath.Join(dir, "run", "netconf.sock"), Bin: bin, lab: l}
}

// Start runs vrouterd, which runs its data plane, and waits until it answers.
func (v *VRouter) Start() error {
	if err := os.MkdirAll(v.Dir, 0o755); err != nil {
		return err
	}
	args := append([]string{filepath.Join(v.Bin, "vrouterd"), "--state-dir", filepath.Join(v.Dir, "state"), "--run-dir", filepath.Join(v.Dir, "run"),
		"--listen", "127.0.0.1:830"}, v.Args...)
	var err error
	if v.Proc, err = v.NS.Start(v.Name+"-vrouterd", args...); err != nil {
		return err
	}
	return v.Ready(20 * time.Second)
}

// Ready waits until vrouterd answers and its data plane is up.
func (v *VRouter) Ready(limit time.Duration) error {
	last := ""
	err := lab.Until(limit, v.Name+" answers", func() bool {
		select {
		case <-v.Proc.Done():
			return true
		default:
		}
		out, err := v.Ctl("show", "fastpath")
		last = out
		return err == nil && strings.Contains(out, "process id")
	})
	select {
	case <-v.Proc.Done():
		return fmt.Errorf("vrouterd of %s has ended:\n%s", v.Name, v.Proc.Output())
	default:
	}
	if err != nil {
		return fmt.Errorf("%w; last answer: %s\nlog of vrouterd:\n%s", err, last, v.Proc.Output())
	}
	return nil
}

// Ctl runs vrouterctl against the vRouter.
func (v *VRouter) Ctl(args ...string) (string, error) {
	c := exec.Command(filepath.Join(v.Bin, "vrouterctl"), append([]string{"--socket", v.Socket}, args...)...)
	out, err := c.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: vrouterctl %v: %w: %s", v.Name, args, err, out)
	}
	return string(out), nil
}

// FastPathPID reads the process id of the data plane.
func (v *VRouter) FastPathPID() (int, error) {
	b, err := os.ReadFile(filepath.Join(v.Dir, "run", "fastpathd.pid"))
	if err != nil {
		return 0, err
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		return 0, err
	}
	return pid, syscall.Kill(pid, 0)
}
