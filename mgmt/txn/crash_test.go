package txn_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vrouter/mgmt/data"
	"vrouter/mgmt/datastore"
	"vrouter/mgmt/txn"
	"vrouter/mgmt/validate"
)

// crashDir makes the test binary the process that is killed.
const crashDir = "VROUTER_TXN_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		fmt.Fprintln(os.Stderr, commitForever(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// anything is a data plane that takes everything.
type anything struct{}

func (anything) Prepare(context.Context, *data.Container, *data.Container) (txn.Pending, error) {
	return anything{}, nil
}
func (anything) Publish() {}
func (anything) Abort()   {}

// onDisk opens a directory and its writer.
func onDisk(dir string, after int64) (*datastore.Store, *txn.Manager, error) {
	s, err := schema()
	if err != nil {
		return nil, nil, err
	}
	v, err := validate.New(s)
	if err != nil {
		return nil, nil, err
	}
	quiet := slog.New(slog.DiscardHandler)
	st, err := datastore.Open(datastore.Options{Dir: dir, Schema: s, Validator: v, Log: quiet, SnapshotAfter: after, Preallocate: 64 << 10})
	if err != nil {
		return nil, nil, err
	}
	m, err := txn.New(txn.Options{Schema: s, Validator: v, Store: st, Applier: anything{}, Log: quiet})
	return st, m, err
}

// commitForever counts up in running, and says what it begins and what was
// acknowledged. Some commits are confirmed commits, confirmed by the next.
func commitForever(dir string) error {
	_, m, err := onDisk(dir, 5000)
	if err != nil {
		return err
	}
	n := 0
	if x := counterOf(m.Tree(running)); x >= 0 {
		n = x
	}
	fmt.Println("at", n)
	for {
		n++
		o := txn.CommitOptions{Confirmed: n%4 == 0}
		fmt.Println("begin", n, o.Confirmed)
		edit := set(fmt.Sprintf("<counter>%d</counter><twin>%d</twin><item><name>n%d</name><value>%s</value></item>", n, n, n%11, strings.Repeat("v", n*37%1500)))
		if err := m.Edit(ctx, ann, candidate, txn.EditOptions{}, edit); err != nil {
			return err
		}
		if err := m.Commit(ctx, ann, o); err != nil {
			return err
		}
		fmt.Println("done", n, o.Confirmed)
	}
}

// counterOf gives the number that both leaves hold, -1 when they differ.
func counterOf(tree *data.Container) int {
	box := tree.Kids()
	if len(box) == 0 {
		return 0
	}
	n := [2]int{}
	for i := range n {
		l, ok := box[0].(*data.Container).Kids()[i].(*data.Leaf)
		if !ok {
			return -1
		}
		fmt.Sscan(l.Value.Text, &n[i])
	}
	if n[0] != n[1] {
		return -1
	}
	return n[0]
}

// TestKill kills a process that commits with SIGKILL, at random instants, and
// starts it again: running is what was acknowledged last or was in flight, or
// what a pending confirmed commit reverts to.
func TestKill(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 12
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	acked, base := 0, -1
	flying, settles := 0, true
	total := 0
	for range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		cmd.Stderr = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			cmd.Wait()
			t.Fatalf("it did not start: %s", said.String())
		}
		var at int
		if _, err := fmt.Sscanf(lines.Text(), "at %d", &at); err != nil {
			t.Fatal(lines.Text())
		}
		without := acked
		if base >= 0 {
			without = base
		}
		if at != without && (at != flying || !settles) {
			t.Fatalf("running is %d; acknowledged was %d, base %d; in flight %d, not tentative %t", at, acked, base, flying, settles)
		}
		acked, base, flying, settles = at, -1, at, true
		kill := time.AfterFunc(time.Duration(r.IntN(30_000))*time.Microsecond, func() { cmd.Process.Kill() })
		for lines.Scan() {
			var n int
			var tentative bool
			var what string
			if _, err := fmt.Sscan(lines.Text(), &what, &n, &tentative); err != nil {
				break // cut off
			}
			if flying, settles = n, !tentative; what == "done" {
				if total++; !tentative {
					base = -1
				} else if base < 0 {
					base = acked
				}
				acked = n
			}
		}
		io.Copy(io.Discard, out)
		cmd.Wait()
		kill.Stop()
		if said.Len() > 0 {
			t.Fatal(said.String())
		}
	}
	st, m, err := onDisk(dir, 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	defer m.Close()
	t.Logf("%d kills, %d commits acknowledged, running %d", rounds, total, counterOf(m.Tree(running)))
	if total < rounds {
		t.Fatal("hardly anything was committed between the kills")
	}
}
