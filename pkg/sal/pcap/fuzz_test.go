package pcap

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead: whatever the bytes, there is an end, errors name a place within the
// file, and what was sound up to there is read again as it was.
func FuzzRead(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*.pcap*")
	if err != nil || len(seeds) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, s := range seeds {
		b, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		n := 0
		var err error
		for ; ; n++ {
			var rec Record
			if rec, err = r.Next(); err != nil {
				break
			}
			if len(rec.Frame) > len(b) {
				t.Fatalf("a frame of %d bytes out of %d", len(rec.Frame), len(b))
			}
		}
		var bad *FormatError
		if err != io.EOF && (!errors.As(err, &bad) || bad.Offset < 0 || bad.Offset > int64(len(b))) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		good := r.Good()
		if good < 0 || good > int64(len(b)) {
			t.Fatalf("sound up to %d of %d", good, len(b))
		}
		if good == 0 {
			return
		}
		if again, _, err := scan(bytes.NewReader(b[:good])); err != nil || again != n {
			t.Fatalf("sound up to %d: %d packets and %v, before %d", good, again, err, n)
		}
	})
}

func TestTime(t *testing.T) {
	for _, x := range []struct {
		i    ngIface
		t    uint64
		want int64
	}{
		{ngIface{tens: 6}, 1_500_000, 1_500_000_000},
		{ngIface{tens: 9}, 1_500_000_001, 1_500_000_001},
		{ngIface{tens: 9, offset: 2}, 5, 2_000_000_005},
		{ngIface{tens: 0}, 7, 7_000_000_000},
		{ngIface{shift: 10}, 1536, 1_500_000_000},
		{ngIface{shift: 63}, 1 << 62, 500_000_000},
		{ngIface{tens: 12}, 3_000_000_001_000, 3_000_000_001},
	} {
		if got := x.i.time(x.t); got != x.want {
			t.Errorf("%+v at %d: %d, want %d", x.i, x.t, got, x.want)
		}
	}
}

// TestGolden reads what other tools have written.
func TestGolden(t *testing.T) {
	for name, want := range map[string]int{"two.pcap": 2, "two.pcapng": 2, "nano.pcap": 2, "big.pcap": 1, "own.pcapng": 2} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		r := NewReader(bytes.NewReader(b))
		last := int64(0)
		for i := range want {
			rec, err := r.Next()
			if err != nil || len(rec.Frame) != 60+i || rec.Cut || rec.Time <= last || rec.Time/1e9 != 1700000000 {
				t.Errorf("%s, packet %d: %v, %+v", name, i, err, rec)
			}
			last = rec.Time
		}
		if _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: %v at its end", name, err)
		}
	}
}
