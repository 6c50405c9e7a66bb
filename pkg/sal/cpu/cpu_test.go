package cpu

import (
	"bytes"
	"crypto/aes"
	"testing"
	"unsafe"

	"vrouter/pkg/gcm"
	"vrouter/pkg/sal"
	"vrouter/pkg/sal/internal/session"
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

// open gives a session and what keeps its SAs.
func open(t *testing.T, e *Engine) (s sal.Session, r *records) {
	t.Helper()
	of := e.Records
	e.Records = func(s *session.Session) (session.Records, error) {
		x, err := of(s)
		r = x.(*records)
		return x, err
	}
	s, err := e.Open("test", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, r
}

func noKeyLeft(t *testing.T, e *Engine) {
	s, r := open(t, e)
	key := []byte("a key that is easy to find in a heap!")[:36]
	h, err := s.AddSA(0, &sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	rec := unsafe.Slice((*byte)(unsafe.Pointer(r.record(h))), recLen)
	sched := key[:16] // the first round keys are the cipher key itself (FIPS 197 section 5.2)
	if e.level == gcm.None && !movable(r.chunks[0].Load().aeads[h]) {
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
	s, r := open(t, New("cpu0"))
	pool, err := sal.NewPool(4)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	q, err := s.Queue(0, pool)
	if err != nil {
		t.Fatal(err)
	}
	c := &sal.SAConfig{SPI: 256, Direction: sal.Outbound, Algorithm: sal.AESGCM16, Key: bytes.Repeat([]byte{7}, 20)}
	h, err := s.AddSA(0, c)
	if err != nil {
		t.Fatal(err)
	}
	q.(*queue).Enter() // as if inside Do
	if err := s.DelSA(h); err != nil {
		t.Fatal(err)
	}
	other, err := s.AddSA(0, c)
	if err != nil || other == h {
		t.Errorf("the handle was given out again: %v", err)
	}
	if x := r.record(h); x.state.Load() != deleted || x.salt == [saltLen]byte{} {
		t.Errorf("the record in use: state %d, salt %x", x.state.Load(), x.salt)
	}
	q.(*queue).Leave()
	if err := s.DelSA(other); err != nil { // which looks at what waits
		t.Fatal(err)
	}
	if x := r.record(h); x.state.Load() != free || x.salt != [saltLen]byte{} {
		t.Errorf("the record stays though the queue is at rest: state %d", x.state.Load())
	}
}

func flatPointer(v any) bool { return movable(v) }
