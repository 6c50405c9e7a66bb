package cpu

import (
	"bytes"
	"crypto/aes"
	"testing"
	"unsafe"

	"vrouter/pkg/sal"
)

func TestLayout(t *testing.T) {
	var r record
	if s := unsafe.Sizeof(r); s != recLen {
		t.Errorf("a record takes %d bytes, want %d", s, recLen)
	}
	if o := unsafe.Offsetof(r.aead); o != lineLen {
		t.Errorf("key material begins at %d", o)
	}
	b, _ := aes.NewCipher(make([]byte, 16))
	if !flatPointer(b) {
		t.Skip("the standard library's AES keeps pointers on this platform: keys stay on the heap")
	}
	if n := len(hot); n > 11 {
		t.Errorf("%d hot lines: the standard library's layout has changed, look at hot", n)
	}
}

// TestNoKeyLeft looks for the key where it must not be once an SA is gone.
func TestNoKeyLeft(t *testing.T) {
	t.Run("best", func(t *testing.T) { noKeyLeft(t, New("cpu0")) })
	t.Run("portable", func(t *testing.T) { noKeyLeft(t, NewPortable("cpu0")) })
}

func noKeyLeft(t *testing.T, e *Engine) {
	x, err := e.Open("test", false)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	s := x.(*session)
	key := []byte("a key that is easy to find in a heap!")[:36]
	h, err := s.AddSA(0, &sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	rec := unsafe.Slice((*byte)(unsafe.Pointer(s.record(h))), recLen)
	sched := key[:16] // the first round keys are the cipher key itself (FIPS 197 section 5.2)
	if !e.vector && !movable(s.chunks[0].Load().aeads[h]) {
		t.Skip("keys stay on the heap on this platform")
	}
	swapped := make([]byte, 16)
	for i := range swapped {
		swapped[i] = sched[i&^3+3-i&3]
	}
	if !bytes.Contains(rec, sched) && !bytes.Contains(rec, swapped) {
		t.Error("the key schedule is not in the record: look at install")
	}
	if err := s.DelSA(h); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rec, make([]byte, recLen)) {
		t.Error("the record of a deleted SA is not wiped")
	}
}

// TestDelayedWipe deletes an SA while a queue is inside a call: the key must
// stay usable until the queue has left it.
func TestDelayedWipe(t *testing.T) {
	e := New("cpu0")
	x, _ := e.Open("test", false)
	defer x.Close()
	s := x.(*session)
	pool, err := sal.NewPool(4)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	qq, err := s.Queue(0, pool)
	if err != nil {
		t.Fatal(err)
	}
	q := qq.(*queue)
	h, err := s.AddSA(0, &sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: make([]byte, 20)})
	if err != nil {
		t.Fatal(err)
	}
	q.turn.Add(1) // as if inside Do
	if err := s.DelSA(h); err != nil {
		t.Fatal(err)
	}
	salt := &s.record(h).op
	s.mu.Lock()
	waiting := len(s.limbo)
	s.mu.Unlock()
	if waiting != 1 {
		t.Fatalf("%d SAs wait for the queue, want 1", waiting)
	}
	if n, _ := s.AddSA(0, &sal.SAConfig{SPI: 257, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: make([]byte, 20)}); n == h {
		t.Error("the handle was given out again")
	}
	q.turn.Add(1)
	s.again()
	s.mu.Lock()
	waiting = len(s.limbo)
	s.mu.Unlock()
	if waiting != 0 || *salt != 0 {
		t.Errorf("%d SAs wait though the queue is at rest", waiting)
	}
}

func flatPointer(v any) bool { return movable(v) }
