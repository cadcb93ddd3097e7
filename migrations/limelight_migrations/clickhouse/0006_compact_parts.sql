-- A part that an insert makes is one file of data, and not three a column: with a hundred columns, each file synced, that
-- was a third of the cost of an insert and most of its time. Parts grow wide when they are merged past this size.
ALTER TABLE spans MODIFY SETTING min_bytes_for_wide_part = 67108864;
