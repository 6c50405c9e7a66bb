package afxdp

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"vrouter/pkg/pkt"
)

// packets makes a frame of each kind, with the right checksum, and says where
// the checksum stands and what the sum over its pseudo-header is; at 0 for
// frames that finish must leave alone.
func packets(r *rand.Rand, payload int) (frames []struct {
	frame  []byte
	at     int
	pseudo uint16
}) {
	for _, tags := range []int{0, 1, 2} {
		for _, v6 := range []bool{false, true} {
			for _, ext := range []bool{false, true} {
				for _, proto := range []uint8{6, 17} {
					f := make([]byte, 12)
					for range tags {
						f = append(f, 0x81, 0, 0, 5)
					}
					l4 := make([]byte, map[uint8]int{6: 20, 17: 8}[proto]+payload)
					for i := range l4 {
						l4[i] = byte(r.Uint32())
					}
					var pseudo pkt.Sum
					if v6 {
						f = append(f, 0x86, 0xdd)
						ip := make([]byte, 40)
						ip[0], ip[6] = 0x60, proto
						for i := 8; i < 40; i++ {
							ip[i] = byte(r.Uint32())
						}
						n := len(l4)
						if ext {
							ip[6] = 0
							ip = append(ip, 60, 0, 1, 4, 0, 0, 0, 0, proto, 0, 1, 4, 0, 0, 0, 0)
							n += 16
						}
						be.PutUint16(ip[4:], uint16(n))
						pseudo = pkt.Pseudo6([16]byte(ip[8:]), [16]byte(ip[24:]), proto, len(l4))
						f = append(f, ip...)
					} else {
						f = append(f, 8, 0)
						ip := make([]byte, 20)
						ip[0], ip[9] = 0x45, proto
						for i := 12; i < 20; i++ {
							ip[i] = byte(r.Uint32())
						}
						if ext {
							ip[0] = 0x46
							ip = append(ip, 1, 1, 1, 0)
						}
						be.PutUint16(ip[2:], uint16(len(ip)+len(l4)))
						pseudo = pkt.Pseudo4([4]byte(ip[12:]), [4]byte(ip[16:]), proto, len(l4))
						f = append(f, ip...)
					}
					field := map[uint8]int{6: 16, 17: 6}[proto]
					be.PutUint16(l4[field:], 0)
					sum := pseudo.Add(l4).Checksum()
					if sum == 0 {
						sum = 0xffff
					}
					be.PutUint16(l4[field:], sum)
					at := len(f) + field
					f = append(f, l4...)
					if tags == 0 { // padding of short frames is not part of it
						f = append(f, 0, 0, 0)
					}
					frames = append(frames, struct {
						frame  []byte
						at     int
						pseudo uint16
					}{f, at, pseudo.Fold()})
				}
			}
		}
	}
	return frames
}

func TestFinish(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 2000 {
		for k, x := range packets(r, i%97) {
			want := bytes.Clone(x.frame)
			got := bytes.Clone(x.frame)
			if finish(got); !bytes.Equal(got, want) {
				t.Fatalf("kind %d: a finished frame is changed:\n%x\n%x", k, want, got)
			}
			be.PutUint16(got[x.at:], x.pseudo)
			if finish(got); !bytes.Equal(got, want) {
				t.Fatalf("kind %d: becomes\n%x, should\n%x", k, got, want)
			}
		}
	}
	// A fragment has its sum already, and what looks unfinished there is data.
	f := packets(r, 20)[0]
	be.PutUint16(f.frame[20:], 0x2000)
	be.PutUint16(f.frame[f.at:], f.pseudo)
	want := bytes.Clone(f.frame)
	if finish(f.frame); !bytes.Equal(f.frame, want) {
		t.Error("a fragment is changed")
	}
}

// FuzzFinish: whatever comes, nothing but one checksum field changes, and doing
// it twice is doing it once.
func FuzzFinish(f *testing.F) {
	for _, x := range packets(rand.New(rand.NewPCG(3, 4)), 9) {
		f.Add(x.frame)
		be.PutUint16(x.frame[x.at:], x.pseudo)
		f.Add(bytes.Clone(x.frame))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < minFrame {
			return
		}
		once := bytes.Clone(b)
		finish(once)
		n := 0
		for i := range b {
			if b[i] != once[i] {
				n++
			}
		}
		if n > 2 {
			t.Fatalf("%d bytes changed:\n%x\n%x", n, b, once)
		}
		twice := bytes.Clone(once)
		if finish(twice); !bytes.Equal(once, twice) {
			t.Fatalf("once\n%x\ntwice\n%x", once, twice)
		}
	})
}

func TestPages(t *testing.T) {
	p := newPages([]uint64{7, 8, 9, 20, 21, 3}, 4096) // breaks behind pages 2 and 4
	for _, x := range []struct {
		at    uint64
		n     uint32
		split bool
	}{
		{0, 4096, false}, {0, 12288, false}, {0, 12289, true}, {12287, 1, false}, {12287, 2, true}, {12288, 8192, false}, {20479, 2, true}, {20480, 100, false},
	} {
		if got := p.split(x.at, x.n); got != x.split {
			t.Errorf("%d bytes at %d: %v", x.n, x.at, got)
		}
	}
	if (*pages)(nil).split(4095, 2) {
		t.Error("copy mode knows no pages")
	}
}

func TestFillSlots(t *testing.T) {
	for _, pool := range []int{64, 1024, 4096, 16384, 1 << 20} {
		sum := 0
		for i := range 8 {
			n := fillSlots(pool, i)
			if n&(n-1) != 0 {
				t.Errorf("%d is no power of two", n)
			}
			sum += n
		}
		if pool >= 4096 && sum > pool*3/4 {
			t.Errorf("eight queues take %d of %d buffers", sum, pool)
		}
	}
}
