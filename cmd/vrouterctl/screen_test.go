package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// onTerminal runs the command with a terminal for standard output and another
// one for standard error, and gives what each shows.
func onTerminal(t *testing.T, args ...string) (out, errOut string) {
	t.Helper()
	read := func() (*os.File, func() string) {
		master, slave, err := pty.Open()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		done := make(chan bool)
		go func() { io.Copy(&b, master); close(done) }() // ends by EIO when the other side closes
		return slave, func() string {
			slave.Close()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("the terminal does not end")
			}
			master.Close()
			return strings.ReplaceAll(b.String(), "\r\n", "\n")
		}
	}
	o, endOut := read()
	e, endErr := read()
	newApp(strings.NewReader(""), o, e).run(args)
	return endOut(), endErr()
}

const escape = "\x1b["

func TestColour(t *testing.T) {
	b := newBed(t)
	t.Setenv("TERM", "xterm")
	b.must("edit", "testdata/show/config.xml", "--commit")
	plain := b.must("show", "interfaces")

	out, _ := onTerminal(t, "show", "interfaces")
	for _, want := range []string{escape + "32mup" + escape, escape + "31mdown" + escape, escape + "1mINTERFACE" + escape} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%q", want, out)
		}
	}
	if bare := uncolour(out); bare != plain {
		t.Errorf("but for colour it is\n%s\nwanted\n%s", bare, plain)
	}
	if out, _ := onTerminal(t, "edit", "testdata/diff/change.xml"); out != "" {
		t.Error(out)
	}
	if out, _ := onTerminal(t, "diff"); !strings.Contains(out, escape+"31m-   <interface>") || !strings.Contains(out, escape+"32m+     <enabled>") {
		t.Errorf("diff: %q", out)
	}
	if _, e := onTerminal(t, "show", "interfaces", "nope"); !strings.HasPrefix(e, escape+"31merror:"+escape) {
		t.Errorf("error: %q", e)
	}

	// Colour is for people at terminals who have nothing against it.
	if strings.Contains(plain, escape) {
		t.Errorf("a pipe gets colour: %q", plain)
	}
	if out, _ := onTerminal(t, "show", "interfaces", "--no-color"); out != plain {
		t.Errorf("--no-color: %q", out)
	}
	for k, v := range map[string]string{"NO_COLOR": "1", "TERM": "dumb"} {
		t.Run(k, func(t *testing.T) {
			t.Setenv(k, v)
			if out, _ := onTerminal(t, "show", "interfaces"); out != plain {
				t.Errorf("%q", out)
			}
		})
	}
	if out, _ := onTerminal(t, "show", "interfaces", "--json"); strings.Contains(out, escape) {
		t.Errorf("JSON gets colour: %q", out)
	}
}

// uncolour takes the escape sequences out.
func uncolour(s string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, escape)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		_, s, _ = strings.Cut(rest, "m")
	}
}

// A table is as wide as it is, with the numbers of a column under each other.
func TestTable(t *testing.T) {
	tab := newTable("nothing", column{"NAME", text}, column{"COUNT", number}, column{"STATE", state}, column{"LAST", text})
	var b bytes.Buffer
	show := func() string {
		b.Reset()
		s := newScreen(&b)
		tab.print(s)
		s.Flush()
		return b.String()
	}
	if got := show(); got != "nothing\n" {
		t.Errorf("empty: %q", got)
	}
	tab.add("größe", "7", "up", strings.Repeat("long ", 60)+"end")
	tab.add("x", "12345678", "down", "")
	tab.more(0, "more")
	tab.add("\x1b[31mred\nline", "0", "", "")
	want := "NAME              COUNT  STATE  LAST\n" +
		"größe                 7  up     " + strings.Repeat("long ", 60) + "end\n" +
		"x              12345678  down   -\n" +
		"more\n" +
		"\uFFFD[31mred line         0  -      -\n"
	if got := show(); got != want {
		t.Errorf("got\n%s\nwanted\n%s", got, want)
	}
}

// A secret is read without being shown, and the terminal is as it was after.
func TestAskOn(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	defer slave.Close()
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer)
	go func() { s, err := askOn(slave, "secret: "); got <- answer{s, err} }()
	buf := make([]byte, 100)
	n, err := master.Read(buf) // the prompt, behind which the echo goes off
	if err != nil || string(buf[:n]) != "secret: " {
		t.Fatalf("%q %v", buf[:n], err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		state, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil || time.Now().After(end) {
			t.Fatal("the echo stays on ", err)
		}
		if state.Lflag&unix.ECHO == 0 {
			break
		}
	}
	io.WriteString(master, "sesame\n")
	if a := <-got; a.text != "sesame" || a.err != nil {
		t.Errorf("%q %v", a.text, a.err)
	}
	n, err = master.Read(buf)
	if err != nil || strings.TrimSpace(string(buf[:n])) != "" {
		t.Errorf("the terminal shows %q %v", buf[:n], err)
	}
}
