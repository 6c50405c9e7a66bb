package peers

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"

	"vrouter/pkg/pkt"
)

// TestParse reads what the programs printed once, and holds it against what that
// says, a line for each figure.
func TestParse(t *testing.T) {
	for _, c := range []struct {
		file  string
		parse func(string) ([]Result, error)
	}{
		{"imb", parseIMB},
		{"cryptoperf", func(s string) ([]Result, error) {
			l, err := parseCryptoPerf(s, "cryptodev-aesni_gcm", "gcm-128/seal")
			return best(l), err
		}},
	} {
		in, err := os.ReadFile(filepath.Join("testdata", c.file+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", c.file+".golden"))
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.parse(string(in))
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for _, r := range l {
			fmt.Fprintf(&got, "%s %s %dB %.2f\n", r.Peer, r.Case, r.Size, r.NS)
		}
		if got.String() != string(want) {
			t.Errorf("%s:\n%swant\n%s", c.file, got.String(), want)
		}
		// Cut anywhere, it gives fewer figures or an error, and no others.
		for i := range in {
			l, err := c.parse(string(in[:i]))
			if err == nil && len(l) == 0 {
				t.Fatalf("%s cut at %d: neither figures nor an error", c.file, i)
			}
		}
	}
}

// TestParseRefuses has output that says nothing, or that the program failed.
func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", "# libipsec-mb 1.3.0\n", "gcm-128 seal 64 burst\n", "gcm-128 seal x burst 3\n", "gcm-128 seal 64 burst x\n",
		"gcm-128 seal 64 burst 0\n", "gcm-128 seal 64 burst -3\n", "gcm-128 seal 64 burst NaN\n", "gcm-128 seal 64 burst +Inf\n"} {
		if l, err := parseIMB(s); err == nil {
			t.Errorf("%q gives %v", s, l)
		}
	}
	for _, s := range []string{"", "Checking one or more user options failed\n", "#lcore id,Buffer Size(B),Burst Size,Enqueued,Dequeued,Failed Enq,Failed Deq,Ops(Millions),Throughput(Gbps),Cycles/Buf\n",
		"1,64,32,100000,99999,0,0,9.781,5.008,214.701\n", "1,64,32,100000,100000,0,0,0.000,0.000,214.701\n", "1,x,32,100000,100000,0,0,9.7,5.0,214.7\n"} {
		if l, err := parseCryptoPerf(s, "", ""); err == nil {
			t.Errorf("%q gives %v", s, l)
		}
	}
}

// TestTelemetry has answers of DPDK 22.11.
func TestTelemetry(t *testing.T) {
	if p, err := parsePorts([]byte(`{"/ethdev/list":[0,1]}`)); err != nil || !slices.Equal(p, []int{0, 1}) {
		t.Error(p, err)
	}
	if n, err := parseSent([]byte(`{"/ethdev/stats":{"ipackets":273147168,"opackets":272468736,"ibytes":0,"q_opackets":[272468736,0]}}`)); err != nil || n != 272468736 {
		t.Error(n, err)
	}
	for _, s := range []string{"", "{}", `{"/ethdev/list":[]}`, `{"/ethdev/stats":null}`, `{"/ethdev/stats":{"ipackets":1}}`} {
		if p, err := parsePorts([]byte(s)); err == nil {
			t.Errorf("%s gives ports %v", s, p)
		}
		if n, err := parseSent([]byte(s)); err == nil {
			t.Errorf("%s gives %d", s, n)
		}
	}
	at := func(ms int, sent ...uint64) snapshot {
		s := snapshot{time.UnixMilli(int64(ms)), map[int]uint64{}}
		for p, n := range sent {
			s.sent[p] = n
		}
		return s
	}
	// Port 1 sends 100 000 in 10 ms, then 200 000.
	if ns, err := bestWindow([]snapshot{at(0, 5, 0), at(10, 5, 100_000), at(20, 5, 300_000), at(30, 5, 300_000)}); err != nil || ns != 50 {
		t.Error(ns, err)
	}
	if ns, err := bestWindow([]snapshot{at(0, 5), at(10, 5)}); err == nil {
		t.Error("nothing was sent, in ", ns)
	}
}

func TestMachine(t *testing.T) {
	if n := freeHuge("MemTotal: 1 kB\nHugePages_Total:     600\nHugePages_Free:      599\nHugePages_Rsvd:        0\n"); n != 599 {
		t.Error(n)
	}
	if n := freeHuge("MemTotal: 1 kB\n"); n != 0 {
		t.Error(n)
	}
	if l, err := cpuList("0-2,8,10-11"); err != nil || !slices.Equal(l, []int{0, 1, 2, 8, 10, 11}) {
		t.Error(l, err)
	}
	for _, s := range []string{"", "a", "1-", "3-1", "0-99999999"} {
		if l, err := cpuList(s); err == nil {
			t.Errorf("%q gives %d CPUs", s, len(l))
		}
	}
	if _, err := program("no-such-program-here"); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	if l := sources("APP = x\nSRCS-y += a.c\nSRCS-y += b.c c.c\nCFLAGS += -g\n"); !slices.Equal(l, []string{"a.c", "b.c", "c.c"}) {
		t.Error(l)
	}
}

// TestCaptures wants packets in the tunnel that the gateway's key opens, and that are
// those of the other capture.
func TestCaptures(t *testing.T) {
	dir := t.TempDir()
	for _, n := range sizes {
		plain, esp := filepath.Join(dir, "plain"), filepath.Join(dir, "esp")
		if err := writeCaptures(plain, esp, n); err != nil {
			t.Fatal(err)
		}
		inner, outer := packets(t, plain), packets(t, esp)
		if len(inner) != 256 || len(outer) != 256 {
			t.Fatalf("%d and %d packets", len(inner), len(outer))
		}
		key := make([]byte, 16)
		for i := range key {
			key[i] = byte(i)
		}
		block, _ := aes.NewCipher(key)
		aead, _ := cipher.NewGCM(block)
		for i, p := range outer {
			if len(inner[i]) != n || !pkt.IPv4(inner[i]).ChecksumOK() || !pkt.IPv4(p).ChecksumOK() || pkt.IPv4(p).Proto() != pkt.ProtoESP {
				t.Fatalf("packet %d: not what it has to be", i)
			}
			e := p[pkt.IPv4Len:]
			text, err := aead.Open(nil, append([]byte{0xde, 0xad, 0xbe, 0xef}, e[8:16]...), e[16:], e[:8])
			if err != nil || !bytes.Equal(text[:n], inner[i]) || text[len(text)-1] != 4 || int(text[len(text)-2]) != len(text)-2-n || len(text)%4 != 0 {
				t.Fatalf("packet %d: %v", i, err)
			}
		}
	}
}

func packets(t *testing.T, file string) (l [][]byte) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for {
		b, _, err := r.ReadPacketData()
		if err != nil {
			return l
		}
		l = append(l, b[14:])
	}
}
