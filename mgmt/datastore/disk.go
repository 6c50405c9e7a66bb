package datastore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// An FS is the directory of a Store: flat, names without a separator. It is
// an interface so that tests can make a disk fail or lose power. Only what was
// synced counts as being on the disk.
type FS interface {
	// Open opens a file that exists for writing; Create makes an empty one.
	Open(name string) (File, error)
	Create(name string) (File, error)
	// ReadFile gives a file's content, or an error that is fs.ErrNotExist.
	ReadFile(name string) ([]byte, error)
	// Rename replaces to where it exists.
	Rename(from, to string) error
	Remove(name string) error
	List() ([]string, error)
	// Sync makes what Create, Rename and Remove did durable.
	Sync() error
	// Close gives the directory back.
	Close() error
	// Path names a file for people.
	Path(name string) string
}

// A File is open for writing.
type File interface {
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	// Sync makes the content durable, with as much of the metadata as reading
	// it back needs.
	Sync() error
	Close() error
}

// ErrInUse means that another process holds the directory.
var ErrInUse = errors.New("the directory is in use by another process")

// Dir opens a directory of the machine as the FS of one Store and locks it
// (flock on a file in it), so that no second process uses it until Close or
// the end of this one. It is made when it is not there. The files hold keys:
// the directory gets mode 0700 and every file 0600, whatever they had before.
func Dir(path string, log *slog.Logger) (FS, error) {
	if err := makeDir(path); err != nil {
		return nil, err
	}
	d := &dir{path: path}
	if err := private(path, 0o700, log); err != nil {
		return nil, err
	}
	var err error
	if d.lock, err = os.OpenFile(d.Path("lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		who, _ := os.ReadFile(d.Path("lock"))
		d.lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w (process %s)", path, ErrInUse, strings.TrimSpace(string(who)))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	d.lock.Truncate(0) // who holds it; only to tell people
	fmt.Fprintln(d.lock, os.Getpid())
	names, err := d.List()
	if err != nil {
		d.Close()
		return nil, err
	}
	for _, n := range names {
		if err := private(d.Path(n), 0o600, log); err != nil {
			d.Close()
			return nil, err
		}
	}
	if d.self, err = os.Open(path); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// makeDir makes a directory that is there after a loss of power as well.
func makeDir(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	up := filepath.Dir(path)
	if up != path {
		if err := makeDir(up); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(up)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// private takes away what others may do.
func private(path string, mode fs.FileMode, log *slog.Logger) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Mode().Perm()&^mode == 0 {
		return nil
	}
	log.Warn("configuration was readable by others; it holds keys", "path", path, "mode", st.Mode().Perm())
	return os.Chmod(path, mode)
}

type dir struct {
	path       string
	lock, self *os.File
}

func (d *dir) Path(name string) string { return filepath.Join(d.path, name) }

func (d *dir) Open(name string) (File, error) {
	return wrap(os.OpenFile(d.Path(name), os.O_RDWR, 0))
}

func (d *dir) Create(name string) (File, error) {
	return wrap(os.OpenFile(d.Path(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600))
}

func (d *dir) ReadFile(name string) ([]byte, error) { return os.ReadFile(d.Path(name)) }
func (d *dir) Rename(from, to string) error         { return os.Rename(d.Path(from), d.Path(to)) }
func (d *dir) Remove(name string) error             { return os.Remove(d.Path(name)) }
func (d *dir) Sync() error                          { return d.self.Sync() }

func (d *dir) List() (names []string, err error) {
	es, err := os.ReadDir(d.path)
	for _, e := range es {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (d *dir) Close() error {
	if d.self != nil {
		d.self.Close()
	}
	return d.lock.Close() // gives the flock back
}

type file struct{ *os.File }

func wrap(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

// Sync is fdatasync: it writes the size when that changed, but no times.
func (f file) Sync() error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			if err != nil {
				return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
			}
			return nil
		}
	}
}

// writeFile puts a whole file in place at once: after a crash there is the old
// one or the new one, never a part.
func writeFile(d FS, name string, parts ...[]byte) error {
	tmp := name + tmpSuffix
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	off := int64(0)
	for _, p := range parts {
		var n int
		if n, err = f.WriteAt(p, off); err != nil {
			break
		}
		off += int64(n)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = d.Rename(tmp, name)
	}
	if err == nil {
		return d.Sync()
	}
	d.Remove(tmp)
	return err
}

const tmpSuffix = ".tmp"
