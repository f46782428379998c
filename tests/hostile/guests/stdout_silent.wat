;; Ends well, and says nothing.
(func (export "_start"))
