;; The simplest loop.
(func $main (loop $on (br $on)))
