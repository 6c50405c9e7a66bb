package pcap

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vrouter/pkg/sal"
)

// room is how much waits in memory to be written.
const room = 4 << 20

// record writes packets on a goroutine of its own: one buffer is filled while
// the other goes to disk.
type record struct {
	path string
	file *os.File
	// failed counts packets that could not be written.
	failed atomic.Uint64

	mu      sync.Mutex
	fill    []byte
	packets uint64 // in fill
	broken  bool

	wake, quit, done chan struct{}
}

// openRecord opens a file to write to, and goes on behind what is in it. dir is
// made when it is not there.
func openRecord(path, iface, dir string) (*record, error) {
	if dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := behind(f); err != nil {
		f.Close()
		return nil, err
	}
	r := &record{path: path, file: f, fill: make([]byte, 0, room), wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	r.fill = appendSection(r.fill, iface)
	go r.run()
	r.kick()
	return r, nil
}

// behind goes to where the capture in a file ends.
func behind(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("it is no file: %w", sal.ErrInvalid)
	}
	if st.Size() == 0 {
		return nil
	}
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil || le.Uint32(magic[:]) != blockSection {
		return fmt.Errorf("there is a file by this name that is no pcapng capture: %w", sal.ErrExists)
	}
	_, good, err := scan(f)
	var bad *FormatError
	if errors.As(err, &bad) && bad.Short {
		slog.Warn("a capture was not finished; what is left of its last packet is cut off", "file", f.Name(), "at", good, "bytes", st.Size()-good, "err", err)
		err = f.Truncate(good)
	}
	if err != nil {
		return err
	}
	_, err = f.Seek(0, io.SeekEnd)
	return err
}

// add takes packets as long as there is room. The file's time is when they are
// sent.
func (r *record) add(pool *sal.Pool, d []sal.Desc) (n int) {
	now := time.Now().UnixNano()
	r.mu.Lock()
	if r.broken {
		n = len(d)
		r.failed.Add(uint64(n))
	} else {
		for ; n < len(d); n++ {
			f := pool.Bytes(d[n])
			if len(r.fill)+len(f)+packetOverhead > cap(r.fill) {
				break
			}
			r.fill = appendPacket(r.fill, now, f)
		}
		r.packets += uint64(n)
	}
	r.mu.Unlock()
	r.kick()
	return n
}

func (r *record) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *record) run() {
	defer close(r.done)
	out := make([]byte, 0, room)
	for last := false; !last; {
		select {
		case <-r.wake:
		case <-r.quit:
			last = true
		}
		r.mu.Lock()
		out, r.fill = r.fill, out[:0]
		packets := r.packets
		r.packets = 0
		broken := r.broken
		r.mu.Unlock()
		if len(out) == 0 || broken {
			continue
		}
		if _, err := r.file.Write(out); err != nil {
			slog.Error("a capture cannot be written; what is sent from now on is lost", "file", r.path, "err", err)
			r.failed.Add(packets)
			r.mu.Lock()
			r.broken = true
			r.mu.Unlock()
		}
	}
}

func (r *record) close() error {
	close(r.quit)
	<-r.done
	return r.file.Close()
}
