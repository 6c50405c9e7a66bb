// Package peers runs other projects' programs beside the vRouter's benchmarks, on
// the same core in the same run: Intel's libipsec-mb by a small C program built here,
// DPDK's dpdk-test-crypto-perf, and DPDK's example ipsec-secgw, built from the source
// that Debian packages. Nothing is installed: what is not there is ErrAbsent, with
// what is missing.
//
//	imb.go, c/imb.c   libipsec-mb
//	cryptoperf.go     dpdk-test-crypto-perf
//	secgw.go          ipsec-secgw, with testpmd for what its ports cost
//	eal.go            what programs of DPDK have in common
//
// Programs are given cores by number and end with the context. Figures are the best of
// several slices or runs, as the vRouter's own "best" are.
package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// ErrAbsent: the peer, or what it takes to run it, is not on this machine.
var ErrAbsent = errors.New("absent")

// Result is one figure of a peer.
type Result struct {
	Peer string  // the program, and which of its ways
	Case string  // algorithm and operation: "gcm-128/seal"
	Size int     // bytes of text, or of the inner IP packet
	NS   float64 // nanoseconds for a packet, on one core
}

// best keeps the least of each case, in the order in which they came first.
func best(all []Result) (l []Result) {
next:
	for _, r := range all {
		for i := range l {
			if o := &l[i]; o.Peer == r.Peer && o.Case == r.Case && o.Size == r.Size {
				o.NS = min(o.NS, r.NS)
				continue next
			}
		}
		l = append(l, r)
	}
	return l
}

func absent(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrAbsent, fmt.Sprintf(format, a...))
}

// program finds a program.
func program(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", absent("no %s", name)
	}
	return p, nil
}

// output runs a program and gives what it printed; its last complaints are in the
// error.
func output(ctx context.Context, command ...string) (string, error) {
	name := command[0]
	c := exec.CommandContext(ctx, name, command[1:]...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, lastLines(errs.String()+out.String(), 3))
	}
	return out.String(), nil
}

func lastLines(s string, n int) string {
	l := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(l[max(0, len(l)-n):], "; ")
}

// compile builds C sources into a program.
func compile(ctx context.Context, dir, to string, args ...string) error {
	cc, err := program("cc")
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, cc, append([]string{"-O3", "-march=native", "-o", to}, args...)...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, lastLines(string(out), 3))
	}
	return nil
}

// exists tells whether there is a file.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
