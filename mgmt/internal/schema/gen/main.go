// Gen writes the typed view of configuration: for each subsystem a flattened
// YANG module (flatten.go), and of it by ygot a package of Go structs.
//
//	go run ./mgmt/internal/schema/gen [-check] [-views DIR]
//
// goyang, which ygot reads modules with, drops what refine and augment below
// uses say, knows no features, and cannot hold two children of one name from
// two modules. The flattened view asks none of that of it.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"vrouter/mgmt/internal/schema"
)

// A view is one subsystem: what package is made of which parts of the schema.
type view struct {
	pkg, about string
	// roots are data paths of lists and containers. Each becomes a struct, with
	// all configuration below: what a binding reads at once.
	roots []string
}

const (
	static = "/ietf-routing:routing/control-plane-protocols/control-plane-protocol/static-routes/"
	ipsec  = "/ietf-i2nsf-ikeless:ipsec-ikeless/"
)

var views = []view{
	{"interfaces", "interfaces with their ports and their IP configuration", []string{"/ietf-interfaces:interfaces/interface"}},
	{"routing4", "static routes of IPv4", []string{static + "ietf-ipv4-unicast-routing:ipv4/route"}},
	{"routing6", "static routes of IPv6", []string{static + "ietf-ipv6-unicast-routing:ipv6/route"}},
	{"ipsec", "entries of the SPD and the SAD", []string{ipsec + "spd/spd-entry", ipsec + "sad/sad-entry"}},
	{"fastpath", "what concerns the fast path as a whole", []string{"/vrouter-fastpath:fastpath"}},
}

func main() {
	check := flag.Bool("check", false, "write nothing; fail when a file is not as it would be written")
	keep := flag.String("views", "", "also write the flattened modules into this `folder`")
	flag.Parse()
	if err := run(*check, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(check bool, keep string) error {
	s, err := schema.Load()
	if err != nil {
		return err
	}
	for _, v := range views {
		text, err := flatten(s, v)
		if err != nil {
			return fmt.Errorf("view %s: %w", v.pkg, err)
		}
		if keep != "" {
			if err := os.WriteFile(filepath.Join(keep, v.pkg+".yang"), text, 0o644); err != nil {
				return err
			}
		}
		code, err := structs(v, text)
		if err != nil {
			return fmt.Errorf("view %s: %w", v.pkg, err)
		}
		file := filepath.Join(home(), v.pkg, v.pkg+".go")
		old, err := os.ReadFile(file)
		switch {
		case err == nil && bytes.Equal(old, code):
		case check:
			return fmt.Errorf("%s is not what the modules say; run make generate", file)
		default:
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(file, code, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// home is the folder above this one, whatever the working directory.
func home() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(file))
}
