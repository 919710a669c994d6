//! Reads XML into elements, without knowing what they mean.

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use quick_xml::{XmlVersion, escape};

use super::Error;

/// Twilio takes documents of at most 64 kB.
pub const DOCUMENT_MAX_BYTES: usize = 64 * 1024;
/// `<Response><Connect><Stream><Parameter>` is as deep as TwiML goes.
const DEPTH_MAX: usize = 4;

const MISPLACED: Error = Error::Invalid("text where none belongs");

/// One element and everything in it.
pub(super) struct Element {
    pub name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Self>,
    text: String,
}

impl Element {
    fn open(start: &BytesStart<'_>) -> Result<Self, Error> {
        const UNREADABLE: Error = Error::Invalid("an attribute cannot be read");
        let mut attributes = Vec::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_| UNREADABLE)?;
            let value =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| UNREADABLE)?;
            attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
        }
        let name = start.name().as_ref().to_owned();
        Ok(Self { name, attributes, children: Vec::new(), text: String::new() })
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Its elements; text between them is an error.
    pub fn children(&self) -> Result<&[Self], Error> {
        if self.text.trim().is_empty() { Ok(&self.children) } else { Err(MISPLACED) }
    }

    /// Its text; elements within are an error.
    pub fn text(&self) -> Result<&str, Error> {
        match self.children.is_empty() {
            true => Ok(&self.text),
            false => Err(Error::Invalid("a verb holds an element that it cannot hold")),
        }
    }

    /// That it holds nothing.
    pub fn empty(&self) -> Result<(), Error> {
        if self.text()?.trim().is_empty() { Ok(()) } else { Err(MISPLACED) }
    }
}

/// The root of a document of at most [`DOCUMENT_MAX_BYTES`].
pub(super) fn read(xml: &str) -> Result<Element, Error> {
    if xml.len() > DOCUMENT_MAX_BYTES {
        return Err(Error::TooLarge);
    }
    let mut reader = Reader::from_str(xml);
    let mut tree = Tree::default();
    loop {
        let event =
            reader.read_event().map_err(|_| Error::Malformed { at: reader.error_position() })?;
        let bad = || Error::Malformed { at: reader.buffer_position() };
        match event {
            Event::Start(start) => tree.open(&start)?,
            Event::Empty(start) => {
                tree.open(&start)?;
                tree.close().ok_or_else(bad)?;
            }
            Event::End(_) => tree.close().ok_or_else(bad)?,
            Event::Text(text) => tree.characters(&text.xml10_content())?,
            Event::CData(text) => tree.characters(&text.xml10_content())?,
            Event::GeneralRef(reference) => {
                match reference.resolve_char_ref().map_err(|_| bad())? {
                    Some(c) => tree.characters(c.encode_utf8(&mut [0; 4]))?,
                    None => {
                        let text =
                            escape::resolve_xml_entity(&reference.into_inner()).ok_or_else(bad)?;
                        tree.characters(text)?;
                    }
                }
            }
            // Entities could be declared in a document type; TwiML has none.
            Event::DocType(_) => return Err(Error::Invalid("a document type is not allowed")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof if tree.open.is_empty() => {
                return tree.root.ok_or(Error::Invalid("there is no <Response>"));
            }
            Event::Eof => return Err(Error::Malformed { at: xml.len() as u64 }),
        }
    }
}

/// A document that is being read.
#[derive(Default)]
struct Tree {
    root: Option<Element>,
    /// From the outside in.
    open: Vec<Element>,
}

impl Tree {
    fn open(&mut self, start: &BytesStart<'_>) -> Result<(), Error> {
        if self.root.is_some() {
            return Err(Error::Invalid("the root must be one <Response>"));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(Error::Invalid("elements are nested too deeply"));
        }
        self.open.push(Element::open(start)?);
        Ok(())
    }

    /// None when nothing is open.
    fn close(&mut self) -> Option<()> {
        let done = self.open.pop()?;
        match self.open.last_mut() {
            Some(parent) => parent.children.push(done),
            None => self.root = Some(done),
        }
        Some(())
    }

    fn characters(&mut self, text: &str) -> Result<(), Error> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(MISPLACED),
        }
        Ok(())
    }
}
