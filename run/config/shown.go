package config

import (
	"strconv"
	"strings"
)

// Shown is a word of the user's, or of an image, as an error shows it: as it is, or quoted when it has what a terminal would not print on one line.
func Shown(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(word)
	}
	return word
}
