package pipeline

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"vrouter/pkg/burst"
)

// TestAskOwn: what is forwarded from many sources by an interface uses up that
// interface's questions for unknown neighbours, and neither those of another
// interface nor those of what the vRouter itself makes for packets that came in
// there.
func TestAskOwn(t *testing.T) {
	a := &asks{seed: burst.NewSeed()}
	ip := [20]byte{0: 0x45}
	at := uintptr(unsafe.Pointer(&ip))
	const now = 1 << 60
	allowed := 0
	for n := range uint32(10 * askIface) {
		binary.BigEndian.PutUint32(ip[12:], 10<<24|n<<8|1)
		if a.unknown(now, 1, at, 7, false) {
			allowed++
		}
	}
	if most := askIface * askBurst / askSource; allowed != most {
		t.Fatalf("%d packets may ask at once, want %d", allowed, most)
	}
	for _, c := range []struct {
		in    IfIndex
		local bool
		want  bool
	}{{7, false, false}, {8, false, true}, {7, true, true}} {
		ip[12]++ // a source that nobody has heard of
		if got := a.unknown(now, 1, at, c.in, c.local); got != c.want {
			t.Errorf("by interface %d, local %v: %v", c.in, c.local, got)
		}
	}
}
