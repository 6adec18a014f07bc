package build

// This file is what the frontend answers when it is asked for something else than a build.

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/moby/buildkit/frontend/subrequests/lint"
)

// WriteAnswer writes the answer, as JSON when asked, and returns the exit code: 1 when the frontend wants another than 0. A check says that there was nothing, and why it went no further.
func (b *Built) WriteAnswer(w io.Writer, asJSON bool) (code int, err error) {
	key := "result.txt"
	if asJSON {
		key = "result.json"
	}
	text := strings.Trim(string(b.Text[key]), "\n")
	if b.options.Frontend["requestid"] == "frontend.lint" && !asJSON {
		if text, err = checked(text, b.Text["result.json"]); err != nil {
			return 0, err
		}
	}
	if status := string(b.Text["result.statuscode"]); status != "" && status != "0" {
		code = 1
	}
	_, err = fmt.Fprintln(w, text)
	return code, err
}

// checked adds to the warnings of a check how many they are, and the error that ended it.
func checked(text string, data []byte) (string, error) {
	var results lint.LintResults
	if err := json.Unmarshal(data, &results); err != nil {
		return "", fmt.Errorf("cannot read what the frontend found: %w", err)
	}
	var b strings.Builder
	switch n := len(results.Warnings); n {
	case 0:
		if results.Error == nil {
			return "Check complete, no warnings found.", nil
		}
	case 1:
		b.WriteString("Check complete, 1 warning has been found!\n\n" + text)
	default:
		fmt.Fprintf(&b, "Check complete, %d warnings have been found!\n\n%s", n, text)
	}
	if results.Error != nil {
		if b.Len() > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString("ERROR: ")
		results.PrintErrorTo(&b, nil)
	}
	return strings.TrimRight(b.String(), "\n"), nil
}
