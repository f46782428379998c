package edge

import (
	"os"
	"strings"
)

// Debug writes a line to the log, with its level, which the host takes over.
func Debug(message string) { line("DEBUG", message) }

// Info does the same for the level INFO.
func Info(message string) { line("INFO", message) }

// Warn does the same for the level WARN.
func Warn(message string) { line("WARN", message) }

// Error does the same for the level ERROR.
func Error(message string) { line("ERROR", message) }

func line(level, message string) {
	os.Stderr.WriteString(level + " " + strings.ReplaceAll(message, "\n", " ") + "\n")
}
