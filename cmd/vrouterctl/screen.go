package main

import (
	"bufio"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/fatih/color"
	"golang.org/x/term"
)

// A screen is an output that knows whether it shows colour: on a terminal
// only, and not where NO_COLOR (no-color.org) or TERM=dumb say otherwise.
type screen struct {
	*bufio.Writer
	colour bool
}

func newScreen(w io.Writer) *screen {
	f, ok := w.(*os.File)
	return &screen{bufio.NewWriter(w), ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))}
}

// paint colours a text. The library's own switch looks at standard output
// alone, so it is told what to do.
func (s *screen) paint(a color.Attribute, text string) string {
	if !s.colour || text == "" || a == color.Reset {
		return text
	}
	c := color.New(a)
	c.EnableColor()
	return c.Sprint(text)
}

// printable replaces what would steer a terminal: names and messages come from
// outside. Line feeds and tabs stay.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}
