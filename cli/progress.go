package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far a long piece of work is: a bar where a person watches, a plain line now and then where none does.
type progress struct {
	w    io.Writer
	tty  bool
	mu   sync.Mutex
	what string
	bar  *progressbar.ProgressBar
	from time.Time
	last time.Time
	base int
}

func newProgress(w io.Writer) *progress {
	f, ok := w.(*os.File)
	return &progress{w: w, tty: ok && term.IsTerminal(int(f.Fd()))}
}

// Update tells that done of total units of what are finished; detail (a loss, a rate) is shown behind it.
func (p *progress) Update(what string, done, total int, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if what != p.what {
		p.finish()
		p.what, p.from, p.last, p.base = what, now, now, done
		if p.tty {
			p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(what),
				progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
				progressbar.OptionClearOnFinish(), progressbar.OptionFullWidth())
		}
	}
	if p.tty {
		if detail != "" {
			p.bar.Describe(what + "  " + detail)
		}
		_ = p.bar.Set(done)
		return
	}
	if now.Sub(p.last) < 10*time.Second && !(done == total && now.Sub(p.from) > time.Second) {
		return
	}
	p.last = now
	left := ""
	if n := done - p.base; n > 0 && done < total {
		left = ", " + (time.Duration(float64(now.Sub(p.from)) / float64(n) * float64(total-done))).Round(time.Second).String() + " left"
	}
	if detail != "" {
		detail = "  " + detail
	}
	fmt.Fprintf(p.w, "%s  %d/%d%s%s\n", what, done, total, left, detail)
}

// segments tells how many choices of what to compute again were tried, of how many at most.
func (p *progress) segments(done, most int) { p.Update("segments to compute again", done, most, "") }

// Line prints a message on a line of its own.
func (p *progress) Line(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
	p.what = ""
	fmt.Fprintf(p.w, format+"\n", a...)
}

func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish()
		p.bar = nil
	}
}

// Close ends a bar that is shown.
func (p *progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
}
