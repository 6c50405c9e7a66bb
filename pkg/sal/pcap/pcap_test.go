package pcap_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
	"vrouter/pkg/sal/pcap"
	"vrouter/pkg/sal/saltest"
)

func pool(t testing.TB, n int) *sal.Pool {
	t.Helper()
	p, err := sal.NewPoolLarge(n, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func open(t testing.TB, d *pcap.Driver, pl *sal.Pool, params sal.PortParams) sal.Port {
	t.Helper()
	return openMTU(t, d, pl, 1500, params)
}

func openMTU(t testing.TB, d *pcap.Driver, pl *sal.Pool, mtu int, params sal.PortParams) sal.Port {
	t.Helper()
	p, err := d.Open(sal.PortConfig{Name: "p", Queues: 1, MTU: mtu, Params: params}, pl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// classic is a capture in the old format.
func classic(order binary.AppendByteOrder, magic uint32, frames ...[]byte) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = append(b, make([]byte, 8)...)
	b = order.AppendUint32(order.AppendUint32(b, 1<<18), 1)
	for i, f := range frames {
		b = order.AppendUint32(order.AppendUint32(b, 1000+uint32(i)), 5)
		b = order.AppendUint32(order.AppendUint32(b, uint32(len(f))), uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

func frame(n int, id byte) []byte {
	f := make([]byte, n)
	f[0], f[12], f[13], f[14] = 2, 0x88, 0xb5, id
	return f
}

// TestSuite plays both ends by files: a named pipe in, and the capture that is
// written out.
func TestSuite(t *testing.T) { saltest.RunPort(t, rig(1500)) }

func TestJumboSuite(t *testing.T) { saltest.RunJumbo(t, rig(sal.MaxMTU)) }

func rig(mtu int) func(t *testing.T) *saltest.PortRig {
	return func(t *testing.T) *saltest.PortRig {
		dir := t.TempDir()
		if err := unix.Mkfifo(filepath.Join(dir, "in"), 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.OpenFile(filepath.Join(dir, "in"), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		if _, err := in.Write(classic(binary.LittleEndian, 0xa1b23c4d)); err != nil {
			t.Fatal(err)
		}
		pl := pool(t, 8192)
		p := openMTU(t, pcap.New(pcap.Options{Dir: dir}), pl, mtu, sal.PortParams{Read: "in", Write: "out"})
		f, err := os.Open(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		out := pcap.NewReader(&tail{f: f})
		return &saltest.PortRig{Port: p, Pool: pl, MTU: mtu,
			Send: func(b []byte) error {
				_, err := in.Write(classic(binary.LittleEndian, 0xa1b23c4d, b)[24:])
				return err
			},
			Recv: func() []byte {
				r, err := out.Next()
				if err != nil {
					return nil
				}
				return bytes.Clone(r.Frame)
			}}
	}
}

// tail waits some 200 ms for a file to grow.
type tail struct{ f *os.File }

func (t *tail) Read(b []byte) (int, error) {
	for end := time.Now().Add(200 * time.Millisecond); ; time.Sleep(time.Millisecond) {
		if n, err := t.f.Read(b); n > 0 || err != io.EOF || time.Now().After(end) {
			return n, err
		}
	}
}

// collect receives until nothing has come for a while.
func collect(pl *sal.Pool, p sal.Port, quiet time.Duration) (ids []byte, at []time.Duration) {
	c := pl.NewCache()
	defer c.Close()
	start := time.Now()
	var d [16]sal.Desc
	for last := time.Now(); time.Since(last) < quiet; {
		n := p.Queue(0).RxBurst(c, d[:])
		for _, x := range d[:n] {
			ids = append(ids, pl.Bytes(x)[14])
			at = append(at, time.Since(start))
			last = time.Now()
		}
		c.FreeDescs(d[:n])
		time.Sleep(100 * time.Microsecond)
	}
	return ids, at
}

// TestReplay: files of all kinds, in their own time and flat out, once and
// more often.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	pl := pool(t, 4096)
	frames := [][]byte{frame(60, 1), frame(1514, 2), frame(61, 3)}
	files := map[string][]byte{
		"le-micro": classic(binary.LittleEndian, 0xa1b2c3d4, frames...), "be-micro": classic(binary.BigEndian, 0xa1b2c3d4, frames...),
		"le-nano": classic(binary.LittleEndian, 0xa1b23c4d, frames...), "be-nano": classic(binary.BigEndian, 0xa1b23c4d, frames...),
	}
	d := pcap.New(pcap.Options{Dir: dir})
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		p := open(t, d, pl, sal.PortParams{Read: name, FlatOut: true, Repeat: 2})
		if ids, _ := collect(pl, p, 50*time.Millisecond); len(ids) != 0 {
			t.Errorf("%s: %d frames before the port is up", name, len(ids))
		}
		if err := p.SetUp(true); err != nil {
			t.Fatal(err)
		}
		if ids, _ := collect(pl, p, 100*time.Millisecond); !bytes.Equal(ids, []byte{1, 2, 3, 1, 2, 3}) {
			t.Errorf("%s: %v", name, ids)
		}
		p.Close()
	}

	// What was written is read again: sent 30 ms apart, it comes 30 ms apart.
	w := open(t, d, pl, sal.PortParams{Write: "own"})
	if err := w.SetUp(true); err != nil {
		t.Fatal(err)
	}
	c := pl.NewCache()
	defer c.Close()
	for i, f := range frames {
		if i > 0 {
			time.Sleep(30 * time.Millisecond)
		}
		b, _ := c.Alloc()
		x := sal.MakeDesc(b, sal.Headroom, uint16(len(f)))
		copy(pl.Bytes(x), f)
		if w.Queue(0).TxBurst(c, []sal.Desc{x}) != 1 {
			t.Fatal("not taken")
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p := open(t, d, pl, sal.PortParams{Read: "own", Repeat: 1})
	if err := p.SetUp(true); err != nil {
		t.Fatal(err)
	}
	ids, at := collect(pl, p, 200*time.Millisecond)
	if !bytes.Equal(ids, []byte{1, 2, 3}) {
		t.Fatalf("%v", ids)
	}
	// Never early: how late is the machine's business.
	if at[2] < 59*time.Millisecond {
		t.Errorf("frames that were sent 60 ms apart come after %v", at)
	}
}

// TestGoOn: a file that is there is gone on with, also one that ends in the
// middle; other tools read it.
func TestGoOn(t *testing.T) {
	dir := t.TempDir()
	pl := pool(t, 4096)
	d := pcap.New(pcap.Options{Dir: dir})
	c := pl.NewCache()
	defer c.Close()
	file := filepath.Join(dir, "out")
	for i := range 3 {
		p := open(t, d, pl, sal.PortParams{Write: "out"})
		if _, err := d.Open(sal.PortConfig{Name: "q", Queues: 1, Params: sal.PortParams{Write: "out"}}, pl); !errors.Is(err, sal.ErrBusy) {
			t.Errorf("two ports write one file: %v", err)
		}
		if err := p.SetUp(true); err != nil {
			t.Fatal(err)
		}
		b, _ := c.Alloc()
		x := sal.MakeDesc(b, sal.Headroom, 61)
		copy(pl.Bytes(x), frame(61, byte(i)))
		p.Queue(0).TxBurst(c, []sal.Desc{x})
		p.Close()
		if i == 1 {
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, st.Size()-5); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := open(t, d, pl, sal.PortParams{Read: "out", FlatOut: true, Repeat: 1})
	if err := p.SetUp(true); err != nil {
		t.Fatal(err)
	}
	if ids, _ := collect(pl, p, 100*time.Millisecond); !bytes.Equal(ids, []byte{0, 2}) {
		t.Errorf("%v", ids)
	}
	if _, err := exec.LookPath("tshark"); err == nil {
		out, err := exec.Command("tshark", "-r", file, "-T", "fields", "-e", "frame.len", "-e", "frame.interface_name").CombinedOutput()
		if err != nil || strings.Count(string(out), "61\tp") != 2 {
			t.Errorf("tshark: %v\n%s", err, out)
		}
	} else if os.Getenv("CI") == "true" {
		t.Fatal("tshark is missing")
	}
	if s := pl.Stats(); s.Free+s.Cached != s.Total {
		t.Errorf("buffers lost: %+v", s)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	pl := pool(t, 64)
	good := classic(binary.LittleEndian, 0xa1b2c3d4, frame(60, 1), frame(60, 2))
	put := func(name string, b []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	edit := func(at int, v byte) []byte { b := bytes.Clone(good); b[at] = v; return b }
	for _, x := range []struct {
		p    sal.PortParams
		err  error
		text string
	}{
		{sal.PortParams{}, sal.ErrInvalid, "neither"},
		{sal.PortParams{Read: "none"}, sal.ErrNotFound, "no such file"},
		{sal.PortParams{Read: "../etc/passwd"}, sal.ErrInvalid, "without a directory"},
		{sal.PortParams{Write: ".hidden"}, sal.ErrInvalid, "dot"},
		{sal.PortParams{Read: put("empty", nil)}, sal.ErrInvalid, "empty"},
		{sal.PortParams{Read: put("header", good[:24])}, sal.ErrInvalid, "no packet"},
		{sal.PortParams{Read: put("text", []byte("this is no capture"))}, sal.ErrInvalid, "at byte 0: 0x74686973"},
		{sal.PortParams{Read: put("short", good[:len(good)-1])}, sal.ErrInvalid, "at byte 116: the file ends in a packet: 59 bytes of 60"},
		{sal.PortParams{Read: put("shorter", good[:102])}, sal.ErrInvalid, "at byte 100: the file ends in a packet header"},
		{sal.PortParams{Read: put("long", edit(34, 0x7f))}, sal.ErrInvalid, "at byte 32: a packet of 8323132 bytes"},
		{sal.PortParams{Read: put("wifi", edit(20, 105))}, sal.ErrInvalid, "at byte 20: link type 105"},
		{sal.PortParams{Write: put("mine", []byte("my thesis"))}, sal.ErrExists, "no pcapng"},
	} {
		p, err := pcap.New(pcap.Options{Dir: dir}).Open(sal.PortConfig{Name: "p", Queues: 1, Params: x.p}, pl)
		if !errors.Is(err, x.err) || !strings.Contains(fmt.Sprint(err), x.text) {
			t.Errorf("%+v: %v", x.p, err)
		}
		if err == nil {
			p.Close()
		}
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "mine")); string(b) != "my thesis" {
		t.Errorf("a foreign file is now %q", b)
	}
}

// TestOddFrames: too long, too short and cut ones are counted, the others come.
func TestOddFrames(t *testing.T) {
	dir := t.TempDir()
	pl := pool(t, 1024)
	b := classic(binary.LittleEndian, 0xa1b2c3d4, frame(1519, 1), make([]byte, 13), frame(60, 2), frame(9000, 3), frame(100, 4))
	binary.LittleEndian.PutUint32(b[len(b)-104:], 200) // the last was captured in part
	if err := os.WriteFile(filepath.Join(dir, "odd"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, pcap.New(pcap.Options{Dir: dir}), pl, sal.PortParams{Read: "odd", FlatOut: true, Repeat: 1})
	if err := p.SetUp(true); err != nil {
		t.Fatal(err)
	}
	if ids, _ := collect(pl, p, 100*time.Millisecond); !bytes.Equal(ids, []byte{2}) || p.Stats().RxErrors != 4 {
		t.Errorf("%v, %+v", ids, p.Stats())
	}
}
