package lab

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// guestRoot writes the guest's file system: busybox, its init, modules in the
// order in which they can be loaded, programs with their libraries.
func guestRoot(file, modules string, programs []string) error {
	c := &cpio{made: map[string]bool{}}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := c.copy(busybox, "/bin/busybox"); err != nil {
		return err
	}
	c.add("/init", 0o100755, []byte(guestInit))
	order, err := moduleOrder(modules, guestModules)
	if err != nil {
		return err
	}
	var names []string
	for _, m := range order {
		names = append(names, filepath.Base(m))
		if err := c.copy(m, "/modules/"+filepath.Base(m)); err != nil {
			return err
		}
	}
	c.add("/modules/order", 0o100644, []byte(strings.Join(names, "\n")+"\n"))
	for _, p := range programs {
		path, err := exec.LookPath(p)
		if err != nil {
			return err
		}
		out, err := exec.Command("ldd", path).CombinedOutput()
		if err != nil && !bytes.Contains(out, []byte("not a dynamic")) {
			return fmt.Errorf("ldd %s: %w: %s", path, err, out)
		}
		for _, f := range append([]string{path}, library.FindAllString(string(out), -1)...) {
			if err := c.copy(f, f); err != nil {
				return err
			}
		}
	}
	c.add("TRAILER!!!", 0, nil)
	return os.WriteFile(file, c.b.Bytes(), 0o600)
}

var library = regexp.MustCompile(`/\S+\.so\S*`)

// moduleOrder finds modules and what they depend on below a directory, the
// latter first. What is not there is built into the kernel.
func moduleOrder(dir string, want []string) (order []string, err error) {
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no modules below %s", dir)
	}
	var add func(name string) error
	add = func(name string) error {
		path := files[strings.ReplaceAll(name, "-", "_")]
		if path == "" || slices.Contains(order, path) {
			return nil
		}
		deps, err := moduleDepends(path)
		if err != nil {
			return err
		}
		for _, d := range deps {
			if err := add(d); err != nil {
				return err
			}
		}
		order = append(order, path)
		return nil
	}
	for _, m := range want {
		if err := add(m); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// moduleDepends reads "depends=a,b" from a kernel module.
func moduleDepends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("%s is no kernel module", path)
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for sc := bufio.NewScanner(bytes.NewReader(bytes.ReplaceAll(info, []byte{0}, []byte{'\n'}))); sc.Scan(); {
		if l, ok := strings.CutPrefix(sc.Text(), "depends="); ok {
			return strings.FieldsFunc(l, func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}

// cpio is an archive in the "new ASCII" format, which is what a kernel takes
// for an initramfs.
type cpio struct {
	b    bytes.Buffer
	made map[string]bool
	ino  int
}

func (c *cpio) copy(from, to string) error {
	if c.made[to] {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	c.add(to, 0o100755, b)
	return nil
}

// add writes a file (or, without data and with mode 040755, a directory), the
// directories above it first.
func (c *cpio) add(path string, mode int, data []byte) {
	name := strings.TrimPrefix(path, "/")
	if d := filepath.Dir(name); d != "." && !c.made["/"+d] {
		c.add("/"+d, 0o040755, nil)
	}
	c.made["/"+name] = true
	c.ino++
	fmt.Fprintf(&c.b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	c.pad()
	c.b.Write(data)
	c.pad()
}

func (c *cpio) pad() {
	for c.b.Len()%4 != 0 {
		c.b.WriteByte(0)
	}
}
