package pcap

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"vrouter/pkg/sal"
)

const (
	// ahead is how many frames are read before they are due, a power of two.
	ahead = 512
	// rest is how long the reader waits when it is that far ahead.
	rest = 500 * time.Microsecond
)

// slot is a frame that was read.
type slot struct {
	due int64 // nanoseconds since the replay began
	n   int   // length in the file, of which at most len(buf) are there
	cut bool
	buf []byte
}

// replay reads a capture on a goroutine of its own into a ring, from which the
// port's first queue takes.
type replay struct {
	path    string
	file    *os.File
	pipe    bool
	flatOut bool
	repeat  uint32

	slots      []slot
	prod, cons atomic.Uint64
	began      time.Time
	started    atomic.Bool
	quit       atomic.Bool
	done       chan struct{}
}

// openReplay opens a capture and reads it through. Of frames longer than maxLen
// the beginning will do.
func openReplay(path string, maxLen int, flatOut bool, repeat uint32) (*replay, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no such file: %w", sal.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	r := &replay{path: path, pipe: st.Mode()&fs.ModeNamedPipe != 0, flatOut: flatOut, repeat: repeat, done: make(chan struct{})}
	flags := os.O_RDONLY
	if r.pipe { // for writing too: it has no end, whoever comes and goes
		flags = os.O_RDWR
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("it is neither a file nor a named pipe: %w", sal.ErrInvalid)
	}
	if r.file, err = os.OpenFile(path, flags, 0); err != nil {
		return nil, err
	}
	if !r.pipe {
		n, _, err := scan(r.file)
		if err == nil && n == 0 {
			err = errors.New("there is no packet in it")
		}
		if err != nil {
			r.file.Close()
			return nil, fmt.Errorf("%w: %w", err, sal.ErrInvalid)
		}
	}
	r.slots = make([]slot, ahead)
	all := make([]byte, ahead*maxLen)
	for i := range r.slots {
		r.slots[i].buf = all[i*maxLen:][:maxLen]
	}
	return r, nil
}

// start begins the replay, once.
func (r *replay) start() {
	if r.started.Load() {
		return
	}
	r.began = time.Now()
	r.started.Store(true)
	go r.run()
}

func (r *replay) run() {
	defer close(r.done)
	base := int64(0)
	for round := uint32(0); r.repeat == 0 || round < r.repeat; round++ {
		if !r.pipe {
			if _, err := r.file.Seek(0, io.SeekStart); err != nil {
				slog.Error("a capture cannot be read", "file", r.path, "err", err)
				return
			}
		}
		end, err := r.once(base)
		if r.quit.Load() {
			return
		}
		if err != nil { // it was sound at the start: somebody is writing
			slog.Error("a capture is damaged, its replay ends", "file", r.path, "err", err)
			return
		}
		base = end
	}
}

// once reads the capture to its end. The first frame is due at base; it gives
// when the next round may begin: as long after the last frame as the mean
// distance of frames is.
func (r *replay) once(base int64) (end int64, err error) {
	x := NewReader(r.file)
	var first, last int64
	for n := int64(0); ; n++ {
		rec, err := x.Next()
		if err == io.EOF {
			if n > 1 {
				last += last / (n - 1)
			}
			return base + last, nil
		}
		if err != nil {
			return 0, err
		}
		if n == 0 {
			first = rec.Time
		}
		last = max(last, rec.Time-first) // captures of several queues go back at times
		if r.pipe {
			last = 0 // it comes when it comes
		}
		if !r.put(base+last, rec) {
			return 0, nil
		}
	}
}

// put waits for room in the ring; false when the port closes.
func (r *replay) put(due int64, rec Record) bool {
	for r.prod.Load()-r.cons.Load() == ahead {
		if r.quit.Load() {
			return false
		}
		time.Sleep(rest)
	}
	s := &r.slots[r.prod.Load()%ahead]
	s.due, s.n, s.cut = due, len(rec.Frame), rec.Cut
	copy(s.buf, rec.Frame)
	r.prod.Add(1)
	return !r.quit.Load()
}

// now is the time of the replay in nanoseconds.
func (r *replay) now() int64 {
	if !r.started.Load() {
		return -1
	}
	return int64(time.Since(r.began))
}

// peek is the next frame when it is due.
func (r *replay) peek(now int64) (f []byte, cut, ok bool) {
	at := r.cons.Load()
	if at == r.prod.Load() {
		return nil, false, false
	}
	s := &r.slots[at%ahead]
	if !r.flatOut && s.due > now {
		return nil, false, false
	}
	return s.buf[:min(s.n, len(s.buf))], s.cut || s.n > len(s.buf), true
}

// drop takes it off.
func (r *replay) drop() { r.cons.Add(1) }

func (r *replay) close() {
	r.quit.Store(true)
	if r.pipe { // ends a read that waits
		_ = r.file.Close()
	}
	if r.started.Load() {
		<-r.done
	}
	if !r.pipe {
		_ = r.file.Close()
	}
}
