package peers

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

//go:embed c/imb.c
var imbSource []byte

// IPsecMB times libipsec-mb on a core, its header and library permitting, in a
// directory that the caller gives and removes.
func IPsecMB(ctx context.Context, dir string, core int) ([]Result, error) {
	if !exists("/usr/include/intel-ipsec-mb.h") {
		return nil, absent("no intel-ipsec-mb.h")
	}
	src, bin := filepath.Join(dir, "imb.c"), filepath.Join(dir, "imb")
	if err := os.WriteFile(src, imbSource, 0o600); err != nil {
		return nil, err
	}
	if err := compile(ctx, dir, bin, src, "-lIPSec_MB"); err != nil {
		return nil, err
	}
	out, err := output(ctx, "taskset", "-c", strconv.Itoa(core), bin)
	if err != nil {
		return nil, err
	}
	return parseIMB(out)
}

// parseIMB reads what imb.c prints.
func parseIMB(out string) (l []Result, err error) {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 5 {
			return nil, fmt.Errorf("libipsec-mb: the line %q", line)
		}
		n, err := strconv.Atoi(f[2])
		if err != nil {
			return nil, fmt.Errorf("libipsec-mb: %w", err)
		}
		ns, err := positive(f[4])
		if err != nil {
			return nil, fmt.Errorf("libipsec-mb: %w", err)
		}
		l = append(l, Result{Peer: "ipsec-mb-" + f[3], Case: f[0] + "/" + f[1], Size: n, NS: ns})
	}
	if len(l) == 0 {
		return nil, fmt.Errorf("libipsec-mb: no figures")
	}
	return l, nil
}

// positive reads a figure, which must be one.
func positive(s string) (float64, error) {
	x, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, err
	}
	if !(x > 0) || x > 1e9 {
		return 0, fmt.Errorf("%s is no figure", s)
	}
	return x, nil
}
