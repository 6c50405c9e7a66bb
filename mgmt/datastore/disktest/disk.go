// Package disktest is a disk in memory for tests of what keeps data on one: it
// fails when told to, and it loses power.
package disktest

import (
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"vrouter/mgmt/datastore"
)

// ErrDead is what every operation gives once the power is off.
var ErrDead = errors.New("the power is off")

// sector is what a disk writes as one.
const sector = 512

// A Disk is a datastore.FS. What was not synced when the power goes is there,
// or not, or in part: each sector by itself, and of the changes of the
// directory the first few. It is safe for concurrent use.
type Disk struct {
	// Fail is asked before every operation, with its name (open, create, read,
	// write, truncate, sync, rename, remove, list, syncdir) and the file's; its
	// error is the operation's. A write that fails has written its first half.
	// It may wait. Set it while nobody uses the Disk.
	Fail func(op, name string) error
	// Room is the size that no file grows beyond: a write that would fails
	// with ENOSPC where room ends. 0 is no limit.
	Room int

	mu      sync.Mutex
	files   map[string]*inode
	durable map[string]*inode
	changes []func(map[string]*inode) // of the directory since it was synced
	off     bool
	ops     int
	dieAt   int
}

type inode struct {
	name     string
	now      []byte // what reads see
	disk     []byte // what was synced
	dirty    bool
	from, to int // what is dirty
}

// touch marks a range as not synced.
func (i *inode) touch(from, to int) {
	if !i.dirty {
		i.dirty, i.from, i.to = true, from, to
	}
	i.from, i.to = min(i.from, from), max(i.to, to)
}

// New gives an empty disk.
func New() *Disk { return &Disk{files: map[string]*inode{}, durable: map[string]*inode{}} }

// PowerOffAfter turns the power off before the n-th operation from now.
func (d *Disk) PowerOffAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dieAt = d.ops + n
}

// Ops counts the operations so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Reboot gives a disk with what survived. d is off from then on.
func (d *Disk) Reboot(r *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off = true
	dir := maps.Clone(d.durable)
	for _, c := range d.changes[:r.IntN(len(d.changes)+1)] {
		c(dir)
	}
	n := New()
	for _, name := range slices.Sorted(maps.Keys(dir)) {
		b := dir[name].survives(r)
		n.files[name] = &inode{name: name, now: b, disk: slices.Clone(b)}
	}
	n.durable = maps.Clone(n.files)
	return n
}

func (i *inode) survives(r *rand.Rand) []byte {
	if !i.dirty {
		return slices.Clone(i.disk)
	}
	size := len(i.disk)
	if r.IntN(2) == 0 {
		size = len(i.now)
	}
	out := make([]byte, size)
	copy(out, i.disk)
	for at := 0; at < size; at += sector {
		if end := min(at+sector, size, len(i.now)); at < end && r.IntN(2) == 0 {
			copy(out[at:end], i.now[at:end])
		}
	}
	return out
}

// begin counts an operation and asks whether it fails.
func (d *Disk) begin(op, name string) error {
	if d.Fail != nil {
		if err := d.Fail(op, name); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ops++
	if d.off || d.dieAt > 0 && d.ops >= d.dieAt {
		d.off = true
		return &fs.PathError{Op: op, Path: name, Err: ErrDead}
	}
	return nil
}

func (d *Disk) change(c func(map[string]*inode)) {
	c(d.files)
	d.changes = append(d.changes, c)
}

func missing(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// Open implements datastore.FS.
func (d *Disk) Open(name string) (datastore.File, error) {
	if err := d.begin("open", name); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.files[name]; i != nil {
		return &file{d, i}, nil
	}
	return nil, missing("open", name)
}

// Create implements datastore.FS.
func (d *Disk) Create(name string) (datastore.File, error) {
	if err := d.begin("create", name); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	i := &inode{name: name}
	d.change(func(m map[string]*inode) { m[name] = i })
	return &file{d, i}, nil
}

// ReadFile implements datastore.FS.
func (d *Disk) ReadFile(name string) ([]byte, error) {
	if err := d.begin("read", name); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.files[name]; i != nil {
		return slices.Clone(i.now), nil
	}
	return nil, missing("read", name)
}

// Rename implements datastore.FS.
func (d *Disk) Rename(from, to string) error {
	if err := d.begin("rename", from); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[from] == nil {
		return missing("rename", from)
	}
	d.change(func(m map[string]*inode) { m[to] = m[from]; delete(m, from) })
	return nil
}

// Remove implements datastore.FS.
func (d *Disk) Remove(name string) error {
	if err := d.begin("remove", name); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files[name] == nil {
		return missing("remove", name)
	}
	d.change(func(m map[string]*inode) { delete(m, name) })
	return nil
}

// List implements datastore.FS.
func (d *Disk) List() ([]string, error) {
	if err := d.begin("list", ""); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.files)), nil
}

// Sync implements datastore.FS.
func (d *Disk) Sync() error {
	if err := d.begin("syncdir", ""); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.durable, d.changes = maps.Clone(d.files), nil
	return nil
}

// Close implements datastore.FS.
func (d *Disk) Close() error { return nil }

// Path implements datastore.FS.
func (d *Disk) Path(name string) string { return "disk/" + name }

// Bytes gives the content of a file as it is now; nil when there is none.
func (d *Disk) Bytes(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.files[name]; i != nil {
		return slices.Clone(i.now)
	}
	return nil
}

// Put replaces a file, durably; nil removes it.
func (d *Disk) Put(name string, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.files, name)
	if b != nil {
		d.files[name] = &inode{name: name, now: slices.Clone(b), disk: slices.Clone(b)}
	}
	d.durable, d.changes = maps.Clone(d.files), nil
}

// Clone gives a disk of its own with the same files, all synced.
func (d *Disk) Clone() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := New()
	for name, i := range d.files {
		n.files[name] = &inode{name: name, now: slices.Clone(i.now), disk: slices.Clone(i.now)}
	}
	n.durable = maps.Clone(n.files)
	return n
}

type file struct {
	d *Disk
	i *inode
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	err := f.d.begin("write", f.i.name)
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err != nil {
		p = p[:len(p)/2]
	}
	if end := int(off) + len(p); err == nil && f.d.Room > 0 && end > f.d.Room {
		p = p[:max(0, f.d.Room-int(off))]
		err = &fs.PathError{Op: "write", Path: f.i.name, Err: syscall.ENOSPC}
	}
	if end := int(off) + len(p); end > len(f.i.now) {
		f.i.now = append(f.i.now, make([]byte, end-len(f.i.now))...)
	}
	f.i.touch(int(off), int(off)+len(p))
	return copy(f.i.now[off:], p), err
}

func (f *file) Truncate(size int64) error {
	if err := f.d.begin("truncate", f.i.name); err != nil {
		return err
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if int(size) < len(f.i.now) {
		f.i.now = slices.Clone(f.i.now[:size])
	} else {
		f.i.now = append(f.i.now, make([]byte, int(size)-len(f.i.now))...)
	}
	f.i.touch(int(size), len(f.i.now))
	return nil
}

func (f *file) Sync() error {
	if err := f.d.begin("sync", f.i.name); err != nil {
		return err
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if i := f.i; len(i.now) != len(i.disk) {
		i.disk = slices.Clone(i.now)
	} else if i.dirty {
		copy(i.disk[i.from:], i.now[i.from:min(i.to, len(i.now))])
	}
	f.i.dirty = false
	return nil
}

func (f *file) Close() error { return nil }
