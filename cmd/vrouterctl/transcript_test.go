package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// TestTranscripts runs the commands in testdata/*/transcript.txt against a
// vRouter of their own each, and compares all they print. A case is a folder;
// config.xml in it, if there, is running before.
//
//	$ vrouterctl ARGS [< FILE]   a command; its output follows, that on standard
//	                             error behind "! ", an exit code that is not 0
//	                             as "[exit N]"
//	% DIRECTIVE                  something that happens meanwhile; see below
//	# COMMENT
func TestTranscripts(t *testing.T) {
	cases, err := filepath.Glob("testdata/*/transcript.txt")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases: ", err)
	}
	for _, c := range cases {
		t.Run(filepath.Base(filepath.Dir(c)), func(t *testing.T) { transcript(t, filepath.Dir(c)) })
	}
}

func transcript(t *testing.T, dir string) {
	b := newBed(t)
	t.Chdir(dir)
	if _, err := os.Stat("config.xml"); err == nil {
		b.must("edit", "config.xml", "--commit")
	}
	want, err := os.ReadFile("transcript.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, line := range strings.Split(string(want), "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
			fmt.Fprintln(&got, line)
		case strings.HasPrefix(line, "% "):
			fmt.Fprintln(&got, line)
			b.directive(line[2:])
		case strings.HasPrefix(line, "$ vrouterctl"):
			fmt.Fprintln(&got, line)
			args := words(t, strings.TrimPrefix(line, "$ vrouterctl"))
			var in io.Reader = strings.NewReader("")
			if n := len(args); n > 2 && args[n-2] == "<" {
				text, err := os.ReadFile(args[n-1])
				if err != nil {
					t.Fatal(err)
				}
				in, args = bytes.NewReader(text), args[:n-2]
			}
			r := run(nil, in, args...)
			got.WriteString(r.out)
			for l := range strings.Lines(r.err) {
				got.WriteString("! " + l)
			}
			if r.code != 0 {
				fmt.Fprintf(&got, "[exit %d]\n", r.code)
			}
			fmt.Fprintln(&got)
		}
	}
	text := strings.ReplaceAll(strings.TrimRight(got.String(), "\n")+"\n", b.dir, "DIR")
	for _, v := range varying {
		text = v.ReplaceAllString(text, "$1…$2")
	}
	if *update {
		if err := os.WriteFile("transcript.txt", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != string(want) {
		t.Errorf("%s/transcript.txt differs (go test -update writes it anew):\n%s", dir, firstDifference(text, string(want)))
	}
}

// varying is what is another each time: identifiers of messages, what is counted
// by the real clock.
var varying = []*regexp.Regexp{
	regexp.MustCompile(`( message-id=")[^"]*(")`),
	regexp.MustCompile(`("last-updated": ")[^"]*(")`),
	regexp.MustCompile(`("(?:time|idle)": )\d+(,?\n)`),
}

// directive makes happen what a command cannot.
func (b *bed) directive(d string) {
	b.t.Helper()
	switch d {
	case "the data plane goes away":
		b.engine.down()
	case "the time is up":
		b.clock.fire()
	case "from here on as bob, an operator":
		b.t.Setenv("VROUTER_SOCKET", b.socket("bob"))
	case "bob locks the candidate", "bob locks running":
		c, err := (&app{socket: b.socket("bob"), timeout: defaultTimeout, out: newScreen(io.Discard), err: newScreen(io.Discard)}).dial()
		if err != nil {
			b.t.Fatal(err)
		}
		ds := strings.Fields(d)[len(strings.Fields(d))-1]
		if err := c.do("<lock><target><" + ds + "/></target></lock>"); err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(c.close)
	default:
		b.t.Fatalf("there is no directive %q", d)
	}
}

// words splits a command line; single quotes hold a word together.
func words(t *testing.T, line string) (l []string) {
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimSpace(rest) {
		if rest[0] == '\'' {
			w, more, ok := strings.Cut(rest[1:], "'")
			if !ok {
				t.Fatal("open quote in ", line)
			}
			l, rest = append(l, w), more
			continue
		}
		w, more, _ := strings.Cut(rest, " ")
		l, rest = append(l, w), more
	}
	return l
}

// firstDifference shows two texts from the first line in which they differ.
func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	i := 0
	for i < len(g) && i < len(w) && g[i] == w[i] {
		i++
	}
	part := func(l []string) string { return strings.Join(l[max(0, i-3):min(len(l), i+12)], "\n") }
	return fmt.Sprintf("line %d\ngot:\n%s\nwant:\n%s", i+1, part(g), part(w))
}
