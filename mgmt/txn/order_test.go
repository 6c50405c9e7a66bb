package txn_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vrouter/mgmt/txn"
)

// TestOrder: prepare, journal, publish, swap.
func TestOrder(t *testing.T) {
	b := newBench(t)
	var log []string
	note := func(s string) {
		if !strings.HasPrefix(s, "write") || len(log) == 0 || log[len(log)-1] != s {
			log = append(log, s)
		}
		if n := b.is(running); s != "event" && n != 0 {
			t.Errorf("readers met the change at %s", s)
		}
	}
	b.plane.on = note
	b.disk.Fail = func(op, name string) error {
		note(op)
		return nil
	}
	b.must(b.Edit(ctx, ann, running, txn.EditOptions{}, count(1)))
	if want := []string{"prepare", "write", "sync", "publish"}; !slices.Equal(log, want) {
		t.Fatal(log)
	}
	if b.is(running) != 1 || len(b.events) != 1 || b.events[0].New != b.Tree(running) {
		t.Fatal("not swapped")
	}
}

// TestDiskRefuses: the data plane is told to forget it, and nothing changed.
func TestDiskRefuses(t *testing.T) {
	for _, op := range []string{"write", "sync"} {
		b := newBench(t)
		b.must(b.commit(ann, 1, txn.CommitOptions{}))
		b.must(b.commit(ann, 2, confirmed))
		b.disk.Fail = func(o, _ string) error {
			if o == op {
				return syscall.ENOSPC
			}
			return nil
		}
		b.plane.log = nil
		same := b.same()
		b.must(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(3)))
		if e := b.fails(b.Commit(ctx, ann, txn.CommitOptions{}), "resource-denied"); !strings.Contains(e.Msg, "no space left") {
			t.Fatal(e)
		}
		b.fails(b.Edit(ctx, ann, running, txn.EditOptions{}, count(3)), "resource-denied")
		b.fails(b.Copy(ctx, ann, txn.Source{Datastore: running}, startup), "resource-denied")
		b.fails(b.CancelCommit(ctx, ann, ""), "resource-denied")
		same()
		if want := []string{"prepare", "abort", "prepare", "abort", "prepare", "abort"}; !slices.Equal(b.plane.log, want) {
			t.Fatal(b.plane.log)
		}
		if p := b.Info().Pending; p == nil || p.Err != nil || !b.Info().Modified || text(t, b.Tree(startup)) != "" {
			t.Fatalf("%+v", b.Info())
		}
		// The disk has room again: all goes on.
		b.disk.Fail = nil
		b.must(b.Commit(ctx, ann, txn.CommitOptions{}))
		b.pending(3, false, 3)
	}
}

// TestSlowDataPlane: readers never wait for it, writers can give up.
func TestSlowDataPlane(t *testing.T) {
	b := newBench(t)
	b.plane.wait = make(chan struct{})
	done := make(chan error)
	go func() { done <- b.Edit(ctx, ann, running, txn.EditOptions{}, count(1)) }()
	// Until Edit has its turn: nobody else gets one then, to lock or to unlock.
	for err := error(nil); err == nil; {
		short, stop := context.WithTimeout(ctx, time.Millisecond)
		if err = b.Lock(short, bob, startup); err == nil {
			stop()
			short, stop = context.WithTimeout(ctx, time.Millisecond)
			err = b.Unlock(short, bob, startup)
		}
		stop()
		if err != nil {
			b.fails(err, "operation-failed")
		}
	}
	if b.is(running) != 0 || b.is(candidate) != 0 || b.Info().Seq != 0 || len(b.History()) != 1 {
		t.Fatal("too early")
	}
	short, stop := context.WithTimeout(ctx, time.Millisecond)
	defer stop()
	b.fails(b.Edit(short, bob, candidate, txn.EditOptions{}, count(2)), "operation-failed")
	b.plane.wait <- struct{}{}
	b.must(<-done)
	if b.is(running) != 1 || b.Info().Modified {
		t.Fatal("not done")
	}
	// A client that goes away while the data plane prepares.
	gone, leave := context.WithCancel(ctx)
	go func() { done <- b.Edit(gone, ann, running, txn.EditOptions{}, count(2)) }()
	leave()
	select {
	case b.plane.wait <- struct{}{}:
		b.fails(<-done, "operation-failed")
	case err := <-done: // before it had its turn
		b.fails(err, "operation-failed")
	}
	b.plane.wait = nil
	b.pending(1, false, 1)
}

func TestResync(t *testing.T) {
	b := newBench(t)
	b.must(b.commit(ann, 1, txn.CommitOptions{}))
	b.restart()
	b.plane.live = nil
	same := b.same
	b.must(b.Resync(ctx))
	if b.plane.live != b.Tree(running) || len(b.plane.old.Kids()) != 0 || b.plane.old.S != b.Tree(running).S {
		t.Fatal("not the whole of running")
	}
	same()()
	if len(b.events) > 0 {
		t.Fatal("no commit, no event")
	}
}

func TestClose(t *testing.T) {
	b := newBench(t)
	b.must(b.commit(ann, 1, txn.CommitOptions{}))
	b.must(b.commit(ann, 2, confirmed))
	b.must(b.Manager.Close())
	b.must(b.Manager.Close())
	b.fails(b.Edit(ctx, ann, candidate, txn.EditOptions{}, count(3)), "operation-failed")
	b.SessionEnded(ann)
	b.clock.pass(time.Hour)
	if b.is(running) != 2 || b.plane.open != 0 {
		t.Fatal("something was done after Close")
	}
}

// TestNewNeedsAll: no Manager without a place to write to.
func TestNewNeedsAll(t *testing.T) {
	if _, err := txn.New(txn.Options{}); err == nil {
		t.Fatal("made of nothing")
	}
}

// TestConcurrent has writers and readers of all kinds at once (run it with
// -race): every tree that a reader sees is one that a commit made.
func TestConcurrent(t *testing.T) {
	b := newBench(t)
	b.must(b.Edit(ctx, ann, running, txn.EditOptions{}, set(`<counter>1</counter><twin>1</twin>`)))
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				x := text(t, b.Tree(running))
				i, j := strings.Index(x, "<counter>"), strings.Index(x, "<twin>")
				if x[i+9:i+9+1] != x[j+6:j+6+1] {
					t.Errorf("half a commit: %s", x)
					return
				}
				b.Info()
				b.History()
				text(t, b.Tree(candidate))
			}
		})
	}
	for w := range 3 {
		by := txn.Session{ID: uint32(10 + w), User: "w"}
		writers.Go(func() {
			for n := range 30 {
				d := string(rune('0' + n%10))
				both := set("<counter>" + d + "</counter><twin>" + d + "</twin>")
				switch w {
				case 0:
					b.Edit(ctx, by, running, txn.EditOptions{}, both)
				case 1:
					if b.Lock(ctx, by, candidate) == nil {
						b.Edit(ctx, by, candidate, txn.EditOptions{}, both)
						b.Commit(ctx, by, txn.CommitOptions{Confirmed: n%2 == 0})
						b.SessionEnded(by)
					}
				case 2:
					b.Validate(ctx, by, txn.Source{Datastore: candidate})
					b.Copy(ctx, by, b.History()[0].Source(), startup)
					b.Resync(ctx)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
}
